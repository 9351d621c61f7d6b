import { request } from "node:http";
import { afterEach, describe, expect, it } from "vitest";
import { json, operatorToken, startGateway, Upstream } from "./harness.ts";

const consoleToken = "console-token-of-the-tests";
const local = { QUARTET_CONSOLE: "local", QUARTET_CONSOLE_TOKEN: consoleToken };
const upstreams = ["user", "session", "analytics", "search"].map((name) => new Upstream(name));
let gateway: Awaited<ReturnType<typeof startGateway>> | undefined;

async function start(env: Record<string, string>): Promise<void> {
  await Promise.all(upstreams.map((upstream) => upstream.start()));
  const [user, session, analytics, search] = upstreams.map((upstream) => upstream.port) as [
    number,
    number,
    number,
    number,
  ];
  gateway = await startGateway({ user, session, analytics, search }, env);
}
afterEach(async () => {
  await gateway?.stop();
  gateway = undefined;
  await Promise.all(upstreams.map((upstream) => upstream.stop()));
});

/** Status of an answer and the first piece of its body; `headers` may say what fetch does not let one say. */
function ask(method: string, path: string, headers: Record<string, string> = {}) {
  return new Promise<{ status: number; type: string; first: string; ended: Promise<void> }>((resolve, reject) => {
    const req = request(new URL(path, gateway!.url), { method, headers }, (res) => {
      const ended = new Promise<void>((done) => res.on("close", done));
      res.once("data", (chunk) => {
        resolve({
          status: res.statusCode!,
          type: String(res.headers["content-type"]),
          first: String(chunk),
          ended,
        });
        res.resume();
      });
    });
    req.on("error", reject);
    req.end();
  });
}

describe("the console of the gateway", () => {
  it("is off unless it is switched on", async () => {
    await start({});
    expect(JSON.parse((await ask("GET", "/v1/console")).first)).toEqual({ console: "off", local: false });
    expect((await ask("GET", "/v1/console/stream", { "Quartet-Console": operatorToken })).status).toBe(404);
    const { host } = new URL(gateway!.url);
    const ours = { Origin: `http://${host}`, "Quartet-Console": operatorToken };
    expect((await ask("POST", "/v1/console/engines/redis/kill", ours)).status).toBe(404);
    expect((await ask("GET", "/v1/admin/status", ours)).status).toBe(401);
  });

  it("shows an operator's console only to who has the token, and has no orders without a supervisor", async () => {
    await start({ QUARTET_CONSOLE: "operator" });
    expect((await ask("GET", "/v1/console/stream")).status).toBe(401);
    const watched = await ask("GET", "/v1/console/stream", { "Quartet-Console": operatorToken });
    expect(watched).toMatchObject({ status: 200, type: "text/event-stream" });
    const ours = { Origin: `http://${new URL(gateway!.url).host}`, "Quartet-Console": operatorToken };
    expect((await ask("POST", "/v1/console/engines/redis/kill", ours)).status).toBe(404);
  });

  it("lets this machine watch, by this machine's name alone", async () => {
    await start(local);
    expect((await ask("GET", "/v1/console/stream")).status).toBe(200);
    expect((await ask("GET", "/v1/console/stream", { Host: "evil.example" })).status).toBe(401);
    expect((await ask("GET", "/v1/console/stream", { "Sec-Fetch-Site": "same-site" })).status).toBe(403);
  });

  it("tells all who watch what the services saw, and asks each of them once", async () => {
    await start(local);
    const sightings = [{ hop: "publish.user", kind: "state", at: 1, n: 1 }];
    const [user] = upstreams;
    user!.on("GET /internal/activity", (_seen, res) => json(res, 200, { until: Date.now(), sightings }));
    const watching = await Promise.all([1, 2, 3].map(() => read("flow")));
    for (const flow of watching) expect(flow).toEqual(sightings);
    const asked = user!.seen.filter(({ url }) => url.startsWith("/internal/activity")).length;
    expect(asked).toBeLessThan(20);
    expect(user!.seen[0]!.identity).toEqual({ kind: "service", name: "gateway" });
  });

  it("does not keep a process that ends waiting for those who watch", async () => {
    await start(local);
    const { ended } = await ask("GET", "/v1/console/stream");
    expect(await gateway!.stop()).toBe(0);
    await ended;
  });
});

/** The first message of a kind on the stream. */
async function read(kind: string): Promise<unknown> {
  const res = await fetch(`${gateway!.url}/v1/console/stream`);
  let text = "";
  for await (const chunk of res.body!) {
    text += Buffer.from(chunk).toString("utf8");
    const found = new RegExp(`^event: ${kind}\\ndata: (.*)$`, "m").exec(text)?.[1];
    // leaving the loop ends the connection
    if (found && text.includes(`${found}\n\n`)) return JSON.parse(found);
  }
  throw new Error(`the stream ended without a ${kind}`);
}
