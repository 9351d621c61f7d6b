import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it, vi } from "vitest";
import { identityOfTests } from "../src/testing.ts";

const fixture = fileURLToPath(new URL("./process.fixture.ts", import.meta.url));
let child: ChildProcess | undefined;
afterEach(() => void child?.kill("SIGKILL"));

async function start(env: NodeJS.ProcessEnv = {}) {
  const process_ = spawn(process.execPath, [fixture], {
    env: { PORT: "0", ...identityOfTests("user"), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  child = process_;
  const out: string[] = [];
  process_.stdout.on("data", (chunk) => out.push(String(chunk)));
  process_.stderr.on("data", (chunk) => out.push(String(chunk)));
  const exit = once(process_, "close").then(([code]) => code as number);
  const text = () => out.join("");
  return { process: process_, text, exit };
}

async function listening(text: () => string): Promise<{ url: string; admin: string }> {
  const line = await vi.waitFor(
    () =>
      text()
        .split("\n")
        .find((l) => l.includes('"listening"')) ?? Promise.reject(new Error(text())),
    { timeout: 20_000, interval: 20 },
  );
  return JSON.parse(line as string);
}

it("drains on SIGTERM: what is in flight finishes, nothing new is taken, workers and pools follow, exit 0", async () => {
  const { process: running, text, exit } = await start();
  const { url, admin } = await listening(text);
  expect((await fetch(`${admin}/readyz`)).status).toBe(200);
  expect((await fetch(`${admin}/livez`)).status).toBe(200);
  expect(await (await fetch(`${admin}/metrics`)).text()).toMatch("nodejs_eventloop_lag");
  expect((await fetch(`${url}/livez`)).status).toBe(404);
  const slow = fetch(`${url}/slow`);
  await vi.waitFor(() => expect(text()).toMatch("slow began"), { timeout: 5000, interval: 10 });
  running.kill("SIGTERM");
  running.kill("SIGINT");
  await vi.waitFor(async () => expect((await fetch(`${admin}/readyz`)).status).toBe(503), {
    timeout: 5000,
    interval: 5,
  });
  await vi.waitFor(() => expect(fetch(`${url}/slow`)).rejects.toThrow(), { timeout: 5000, interval: 5 });
  expect(await (await slow).json()).toEqual({ done: true });
  expect(await exit).toBe(0);
  expect(text().indexOf("worker flushed")).toBeLessThan(text().indexOf("pools closed"));
  expect(text()).toMatch("worker flushed");
});

it("goes on serving for DRAIN_MS after SIGTERM, not ready, and takes leave of each connection", async () => {
  const { process: running, text, exit } = await start({ DRAIN_MS: "4000" });
  const { url, admin } = await listening(text);
  expect((await fetch(`${url}/slow`)).headers.get("connection")).toBe("keep-alive");
  running.kill("SIGTERM");
  await vi.waitFor(async () => expect((await fetch(`${admin}/readyz`)).status).toBe(503), {
    timeout: 5000,
    interval: 5,
  });
  const late = await fetch(`${url}/slow`);
  expect([late.status, late.headers.get("connection")]).toEqual([200, "close"]);
  expect(text()).not.toMatch("worker flushed");
  expect(await exit).toBe(0);
  expect(text()).toMatch("worker flushed");
});

it("an error that nobody caught ends the process, logged", async () => {
  const { text, exit } = await start();
  const { url } = await listening(text);
  await fetch(`${url}/crash`);
  expect(await exit).toBe(1);
  expect(text()).toMatch(/unhandled rejection.*|nobody caught me/);
});

it("refuses to start on a bad variable, with one line that names it", async () => {
  const { text, exit } = await start({ IDENTITY_KEYS: "short", PORT: "0" });
  expect(await exit).toBe(1);
  expect(text()).toBe("configuration: IDENTITY_KEYS: is not valid JSON\n");
});

it("loads the exporter when it is asked to, and still works when nobody listens there", async () => {
  const { process: running, text, exit } = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" });
  const { url } = await listening(text);
  expect((await fetch(`${url}/slow`)).status).toBe(200);
  running.kill("SIGTERM");
  expect(await exit).toBe(0);
});

it("sends its spans to the collector, continuing the caller's trace", async () => {
  const received: string[] = [];
  const collector = createServer(async (req, res) => {
    let body = "";
    for await (const chunk of req) body += chunk;
    received.push(`${req.url} ${body}`);
    res.writeHead(200, { "content-type": "application/json" }).end("{}");
  });
  collector.listen(0, "127.0.0.1");
  await once(collector, "listening");
  const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
  const { process: running, text, exit } = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint });
  const { url } = await listening(text);
  const traceId = "0af7651916cd43dd8448eb211c80319c";
  await fetch(`${url}/slow`, { headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` } });
  running.kill("SIGTERM");
  expect(await exit).toBe(0);
  collector.close();
  const sent = received.join("\n");
  for (const part of ["/v1/traces", traceId, '"b7ad6b7169203331"', "GET /slow", '"fixture"'])
    expect(sent).toContain(part);
});
