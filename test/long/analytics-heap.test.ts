import { randomUUID } from "node:crypto";
import { emit, encodeToken, type Outgoing, uuidv7 } from "@quartet/contracts";
import { eventually, type ServiceProcess } from "@quartet/service/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createWorld, settle, type World } from "../../services/analytics/test/world.ts";

let world: World;
let service: ServiceProcess;
const MB = 1024 * 1024;
/** Of each use so many in one round. */
const EACH = 150;
const gateway = { kind: "service", name: "gateway" } as const;
const user = { kind: "service", name: "user" } as const;

beforeAll(async () => {
  world = await createWorld();
  await world.makeStreams();
  service = await world.start({ NODE_OPTIONS: "--inspect=127.0.0.1:0", AUDIT_INTERVAL_MS: "1000", LOG_LEVEL: "info" });
  await eventually(() => service.ready(), { what: "the service" });
});
afterAll(async () => {
  await world?.dispose();
});

/** What the process holds once everything that can go has gone, in bytes: asked of it through its inspector. */
async function heapOf({ log }: ServiceProcess): Promise<number> {
  const address = /Debugger listening on (ws:\S+)/.exec(log)?.[1] as string;
  const socket = new WebSocket(address);
  await new Promise((opened, failed) => {
    socket.onopen = opened;
    socket.onerror = failed;
  });
  let id = 0;
  const ask = (method: string): Promise<{ usedSize: number }> =>
    new Promise((answered) => {
      const mine = ++id;
      socket.addEventListener("message", ({ data }) => {
        const message = JSON.parse(String(data));
        if (message.id === mine) answered(message.result);
      });
      socket.send(JSON.stringify({ id: mine, method }));
    });
  await ask("HeapProfiler.collectGarbage");
  await ask("HeapProfiler.collectGarbage");
  const { usedSize } = await ask("Runtime.getHeapUsage");
  socket.close();
  return usedSize;
}

/** Everything that Analytics is asked for, by somebody new each time: answered, refused, waited for in vain, and left in the middle. */
async function use(): Promise<void> {
  const call = (method: string, path: string, rest: Parameters<ServiceProcess["call"]>[2] = {}) =>
    service.call(method, path, rest).catch(() => undefined);
  const facts: Outgoing[] = [];
  for (let i = 0; i < EACH; i += 10) {
    await Promise.all(
      Array.from({ length: 10 }, async () => {
        const id = uuidv7();
        const name = `event.${randomUUID()}`;
        const headers = { "Quartet-Client": randomUUID() };
        const person = { kind: "user", userId: id, sessionId: uuidv7() } as const;
        facts.push(emit.track(`t:${id}`, { name, userId: id, properties: { [name]: name } }, { time: new Date() }));
        await call("POST", "/v1/track", {
          as: person,
          headers,
          body: { events: [{ id, name, userId: id, properties: { [name]: 1 } }] },
        });
        await call("GET", `/v1/analytics/events?name=${name}`, { headers });
        await call("GET", `/v1/analytics/retention?cohort=week&periods=4&from=2025-01-01&to=2026-01-01`, { headers });
        await call("GET", `/v1/analytics/${name}`, { headers });
        await call("GET", `/v1/analytics/events?${name}=1`, { headers });
        await call("GET", `/v1/analytics/sessions`, {
          headers: { ...headers, "Consistency-Token": encodeToken({ f: [name] }) },
        });
        await call("GET", `/internal/activity/${id}`, { as: gateway });
        await call("POST", "/internal/erasures", { as: user, body: { userId: id, version: 1 } });
        const gone = AbortSignal.timeout(5);
        await fetch(`${service.url}/v1/analytics/active-users?interval=day&from=2025-01-01&to=2026-01-01`, {
          headers: { ...headers, prefer: "wait=5", "Consistency-Token": encodeToken({ f: [name] }) },
          signal: gone,
        }).catch(() => undefined);
      }),
    );
    await call("POST", "/internal/audit", { as: gateway });
    await call("GET", "/internal/status", { as: gateway });
  }
  await world.publish(facts);
  await settle(world, service, 120_000);
}

test("nothing in the process grows with use", async () => {
  // What is made once, and filled up to its bound.
  await use();
  await use();
  const before = await heapOf(service);
  const rounds = Number(process.env.QUARTET_HEAP_ROUNDS ?? 10);
  for (let round = 0; round < rounds; round++) {
    await use();
    console.log(`${((await heapOf(service)) / MB).toFixed(1)} MB, before ${(before / MB).toFixed(1)}`);
  }
  // A kilobyte for each use would be more than this.
  expect(((await heapOf(service)) - before) / MB).toBeLessThan((rounds * EACH * 8 * 1024) / MB);
});
