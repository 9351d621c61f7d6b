import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { forget, launch } from "../lib/launch.ts";
import { openBrowser } from "./browser.ts";

/** Takes the pictures of `docs/screens/` of a system of its own: `node test/browser/screens.ts`. */
const folder = new URL("../../docs/screens/", import.meta.url).pathname;
mkdirSync(folder, { recursive: true });
const system = await launch();
const browser = await openBrowser();
try {
  const token = readFileSync(join(system.home, "console-token"), "utf8").trim();
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });
  page.setDefaultTimeout(60_000);
  page.on("dialog", (dialog) => void dialog.accept());
  const shot = (name: string, fullPage = false) => page.screenshot({ path: join(folder, `${name}.png`), fullPage });
  const quiet = () => page.waitForSelector("#said", { state: "hidden" });

  await page.goto(`${system.url}/#token=${token}`);
  await page.waitForSelector(".node[data-state=up]");
  await page.click("#seed");
  await page.waitForSelector('#said:has-text("200 people")');
  await quiet();
  await page.click("#load-200");
  await sleep(15_000);
  await page.click("#try-sign-up");
  await page.waitForSelector("#edit");
  await page.waitForSelector("#trail:not([hidden]):not(:has(li[data-state=wait]))");
  await page.fill("#q", "an");
  await page.waitForSelector("#hits li");
  await page.locator("#edit [name=displayName]").focus();
  await page.evaluate("scrollTo(0, 0)");
  await page.waitForSelector(".node[data-state=behind]", { state: "detached" });
  await shot("console-light");

  await page.emulateMedia({ colorScheme: "dark" });
  await page.click("#node-elasticsearch [data-act=kill]");
  await page.waitForSelector("#node-elasticsearch[data-state=down]");
  await sleep(9000);
  await page.evaluate("scrollTo(0, 0)");
  await shot("console-search-down");

  await page.click("text=My page");
  await page.waitForSelector("dialog#person .missing");
  await shot("console-person-with-search-down");
  await page.keyboard.press("Escape");
  await page.setViewportSize({ width: 390, height: 844 });
  await page.evaluate("scrollTo(0, 0)");
  await sleep(4000);
  await shot("console-phone");

  await page.setViewportSize({ width: 1280, height: 800 });
  await page.click("#node-elasticsearch [data-act=revive]");
  await page.emulateMedia({ colorScheme: "light" });
  await page.click("#tab-analytics");
  await page.waitForSelector("#charts figure");
  await shot("console-analytics", true);
  await page.click("#tab-people");
  await page.waitForSelector("#node-elasticsearch[data-state=up]", { timeout: 180_000 });
  await page.click("text=Erase me");
  await page.waitForSelector('.receipts[data-state="complete"]');
  await page.evaluate("scrollTo(0, document.body.scrollHeight)");
  await sleep(1500);
  await shot("console-erasure");
} finally {
  await browser.close();
  await system.stop();
  forget(system.home);
}
