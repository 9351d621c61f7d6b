import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { AxeBuilder } from "@axe-core/playwright";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "../lib/client.ts";
import { client, home } from "../lib/system.ts";
import { openBrowser } from "./browser.ts";

const PATIENCE_MS = 60_000;
const WEIGHT_LIMIT = 150 * 1024;

let browser: Browser;
let context: BrowserContext;
let page: Page;
const complaints: string[] = [];
const fetched = new Map<string, number>();
/** The token that the start printed. */
const token = home
  ? readFileSync(join(home, "console-token"), "utf8").trim()
  : (process.env.QUARTET_CONSOLE_TOKEN ?? "");

beforeAll(async () => {
  browser = await openBrowser();
  context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  context.setDefaultTimeout(PATIENCE_MS);
  page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    // What was switched off on purpose answers 503, and a browser logs that.
    const expected = /the server responded with a status of (503|409)/.test(message.text());
    if (message.type() === "error" && !expected) complaints.push(message.text());
  });
  page.on("dialog", (dialog) => void dialog.accept());
  page.on("response", async (response) => {
    if (response.request().resourceType() === "fetch") return;
    fetched.set(response.url(), gzipSync(await response.body().catch(() => "")).length);
  });
  await page.goto(`${client.url}/#token=${token}`);
  await page.evaluate(() => Object.assign(globalThis, { neverReloaded: true }));
});
afterAll(() => browser?.close());

const chip = (engine: string) => page.locator(`#node-${engine}`);
const stateOf = (engine: string) => chip(engine).getAttribute("data-state");
const act = (engine: string, action: string) => page.click(`#node-${engine} [data-act=${action}]`);
const allUp = () =>
  eventually(
    "all engines are up",
    async () => (await page.locator(".node[data-state=up]").count()) === 5,
    2 * PATIENCE_MS,
  );

async function signSomebodyUp(): Promise<string> {
  await page.click("#try-sign-up");
  await page.waitForSelector("#edit");
  return (await page.locator("#edit .who").textContent())?.match(/@(\w+)/)?.[1] as string;
}

describe("the console", () => {
  it("is small, of one origin, and runs nothing inline", async () => {
    await allUp();
    expect([...fetched.keys()].filter((url) => !url.startsWith(client.url) && !url.startsWith("data:"))).toEqual([]);
    const bytes = [...fetched.values()].reduce((a, b) => a + b, 0);
    console.log(`the page weighs ${(bytes / 1024).toFixed(1)} kB compressed, in ${fetched.size} files`);
    expect(bytes).toBeLessThan(WEIGHT_LIMIT);
    const policy = (await fetch(client.url)).headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/unsafe|https?:|\*/);
    expect(page.url()).not.toContain(token);
  });

  it("shows a sign-up on its way into every store, and finds it", async () => {
    const before = await page.locator("[data-count=users]").textContent();
    const handle = await signSomebodyUp();
    for (const store of ["JetStream", "Redis", "Elasticsearch", "ClickHouse"]) {
      await page.waitForSelector(`#trail li[data-state=up]:has-text("${store}")`);
    }
    await eventually(
      "one person more",
      async () => (await page.locator("[data-count=users]").textContent()) !== before,
    );
    await page.fill("#q", handle);
    await page.waitForSelector(`#hits li:has-text("@${handle}"):has-text("you")`);
  });

  it("waits for its own write where asked, and says what it got where not", async () => {
    await page.check("#wait");
    await page.fill("#edit [name=displayName]", "Renamed Waiting");
    await page.click("#edit button.primary");
    await page.waitForSelector('#freshness:has-text("Waited for your write")');
    await page.waitForSelector('#hits li:has-text("Renamed Waiting")');
    await page.uncheck("#wait");
    await page.fill("#edit [name=displayName]", "Renamed At Once");
    const written = page.waitForResponse((response) => response.request().method() === "PATCH");
    await page.click("#edit button.primary");
    await written;
    // Whether it was fresh is the store's affair; what it says and how it looks come together.
    await page.waitForSelector('#freshness:is([data-state="fresh"], [data-state="stale"]):has-text("Answered")');
    await eventually("the new name is found", async () => {
      await page.locator("#search").evaluate((form) => (form as unknown as { requestSubmit(): void }).requestSubmit());
      return page.locator('#hits li:has-text("Renamed At Once")').count();
    });
  });

  it("suggests while one types, by keyboard too, and narrows by facets", async () => {
    await page.fill("#q", "");
    await page.locator("#q").pressSequentially("renam", { delay: 20 });
    await page.waitForSelector("#suggestions [role=option]");
    await page.keyboard.press("ArrowDown");
    expect(await page.getAttribute("#q", "aria-activedescendant")).toBe("suggestion-0");
    await page.keyboard.press("Enter");
    await page.waitForSelector("dialog#person .part");
    expect(await page.locator("dialog#person .part").count()).toBe(4);
    await page.keyboard.press("Escape");
    await page.fill("#q", "");
    await page.locator("#facets button").first().click();
    await page.waitForSelector('#facets button[aria-pressed="true"]');
    await page.locator('#facets button[aria-pressed="true"]').click();
  });

  it("lists sessions, opens and revokes them", async () => {
    await page.click("#tab-sessions");
    await page.waitForSelector(".sessions li");
    await page.click("text=Log in on another device");
    await eventually("two sessions", async () => (await page.locator(".sessions li").count()) === 2);
    await page.locator(".sessions li:not(:has-text('this one')) button").click();
    await eventually("one session", async () => (await page.locator(".sessions li").count()) === 1);
  });

  it("draws sign-ups, active people, the funnel and retention", async () => {
    await page.click("#seed");
    await page.waitForSelector('#said:has-text("200 people")');
    await page.click("#tab-analytics");
    await page.waitForSelector("#charts figure");
    expect(await page.locator("#charts figure").count()).toBe(5);
    await eventually("the funnel has people", async () => {
      await page.click("#analytics-again");
      const said = await page.locator('#charts svg[aria-label^="Funnel"]').getAttribute("aria-label");
      return Number(said?.match(/of (\d[\d,]*) who/)?.[1]?.replaceAll(",", "")) > 0;
    });
    expect(await page.locator(".retention tbody tr").count()).toBeGreaterThan(1);
  });

  it("has no serious accessibility violation: light, dark, on a phone, in every tab and dialog", async () => {
    const check = async (where: string) => {
      const { violations } = await new AxeBuilder({ page }).analyze();
      const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
      expect(serious.map((v) => `${where}: ${v.id} ${v.nodes.map((n) => n.html.slice(0, 120)).join(" | ")}`)).toEqual(
        [],
      );
    };
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      for (const tab of ["people", "sessions", "analytics", "erasure"]) {
        await page.click(`#tab-${tab}`);
        await check(`${colorScheme} ${tab}`);
      }
    }
    await page.setViewportSize({ width: 390, height: 844 });
    await page.click("#tab-people");
    await check("phone");
    const wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
    expect(wide).toBeLessThanOrEqual(0);
    await page.locator("#hits button").first().click();
    await page.waitForSelector("dialog#person .part");
    await check("person");
    await page.keyboard.press("Escape");
    await page.setViewportSize({ width: 1280, height: 900 });
    await page.emulateMedia({ colorScheme: "light", reducedMotion: "no-preference" });
  });

  it("shows receipts as an erasure spreads", async () => {
    await page.click("text=Erase me");
    await page.waitForSelector('.receipts[data-state="complete"]');
    expect(await page.locator('.receipts li[data-state="up"]').count()).toBe(4);
    await page.click("#tab-people");
  });

  it("killing Elasticsearch takes search down and nothing else, and what waited drains on its return", async () => {
    await signSomebodyUp();
    await act("elasticsearch", "kill");
    try {
      await eventually("search is shown down", async () => (await stateOf("elasticsearch")) === "down", PATIENCE_MS);
      await page.waitForSelector('#verdict:has-text("Search is down")');
      for (const engine of ["postgres", "redis", "nats", "clickhouse"]) expect(await stateOf(engine)).toBe("up");
      const handle = await signSomebodyUp();
      await page.waitForSelector('#trail li[data-state=wait]:has-text("Elasticsearch")');
      await page.waitForSelector('#trail li[data-state=up]:has-text("ClickHouse")');
      await eventually("a backlog is shown", async () =>
        /[1-9]\d* waiting/.test((await chip("elasticsearch").textContent()) ?? ""),
      );
      await page.click("text=My page");
      await page.waitForSelector('dialog#person .missing:has-text("Search does not answer")');
      await page.keyboard.press("Escape");
      await act("elasticsearch", "revive");
      await allUp();
      await page.waitForSelector('#trail li[data-state=up]:has-text("Elasticsearch")');
      await eventually("the backlog is gone", async () =>
        /, 0 waiting/.test((await chip("elasticsearch").textContent()) ?? ""),
      );
      await page.fill("#q", handle);
      await page.waitForSelector(`#hits li:has-text("@${handle}")`);
      expect(await page.evaluate("neverReloaded")).toBe(true);
    } finally {
      if (await page.locator("#node-elasticsearch [data-act=revive]").isVisible()) await act("elasticsearch", "revive");
    }
  });

  it("freezes and revives an engine", async () => {
    await act("redis", "freeze");
    await page.waitForSelector('#node-redis[data-state=down] [data-chip]:has-text("frozen")');
    await page.waitForSelector('#verdict:has-text("Sessions are down")');
    await act("redis", "revive");
    await allUp();
  });

  it("audits the stores, and fills one anew while it serves", async () => {
    await page.click("#audit");
    await page.waitForSelector('#said:has-text("Every derived store equals the truth")');
    await act("elasticsearch", "rebuild");
    await page.waitForSelector('#said:has-text("Elasticsearch is filled anew")');
    expect(await stateOf("elasticsearch")).not.toBe("down");
  });

  it("shows a load of 200 events a second with little work", async () => {
    const session = await context.newCDPSession(page);
    await session.send("Performance.enable", { timeDomain: "threadTicks" });
    const spent = async () => {
      const { metrics } = await session.send("Performance.getMetrics");
      return metrics.find(({ name }) => name === "TaskDuration")?.value ?? Number.NaN;
    };
    const root = await browser.newBrowserCDPSession();
    const spentByAll = async () => {
      const { processInfo } = await root.send("SystemInfo.getProcessInfo");
      return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
    };
    await page.click("#load-200");
    await eventually("events flow", async () => Number(await page.locator("#rate").textContent()) > 50);
    const [from, fromAll, at] = [await spent(), await spentByAll(), performance.now()];
    await new Promise((done) => setTimeout(done, 8000));
    const share = (await spent()) - from;
    const shareOfAll = (await spentByAll()) - fromAll;
    const seconds = (performance.now() - at) / 1000;
    const percent = (part: number) => ((100 * part) / seconds).toFixed(1);
    const rate = await page.locator("#rate").textContent();
    console.log(
      `at ${rate} events/s the page uses ${percent(share)} % of one core, the whole browser ${percent(shareOfAll)} %`,
    );
    expect(share).toBeGreaterThan(0);
    await page.click("#load-stop");
    await page.waitForSelector("#load-200:visible");
  });

  it("complained about nothing", () => {
    expect(complaints).toEqual([]);
  });
});

describe("the console's actions", () => {
  const freeze = (headers: Record<string, string>) =>
    client.call("POST", "/v1/console/engines/redis/freeze", { headers, raw: "" });
  const origin = new URL(client.url).origin;

  it("answer only their own page, and only with the token", async () => {
    const right = { "Quartet-Console": token, Origin: origin };
    expect((await freeze({ Origin: origin })).status).toBe(401);
    expect((await freeze({ ...right, "Quartet-Console": "not the token that was printed" })).status).toBe(401);
    expect((await freeze({ "Quartet-Console": token })).status).toBe(403);
    expect((await freeze({ ...right, Origin: "http://evil.example" })).status).toBe(403);
    expect((await freeze({ ...right, "Sec-Fetch-Site": "cross-site" })).status).toBe(403);
    const status = (headers: Record<string, string>) => client.get("/v1/admin/status", { headers });
    expect((await status(right)).status).toBe(200);
    expect((await status({ ...right, Origin: "http://evil.example" })).status).toBe(403);
    expect((await status({ Origin: origin })).status).toBe(401);
  });

  it("let nobody watch who came by another name or from another page", async () => {
    const watch = (headers: Record<string, string>) => client.get("/v1/console/stream", { headers });
    expect((await watch({ "Sec-Fetch-Site": "cross-site" })).status).toBe(403);
  });
});
