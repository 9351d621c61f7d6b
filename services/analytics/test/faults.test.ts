import { emit, uuidv7 } from "@quartet/contracts";
import { eventually, type ServiceProcess } from "@quartet/service/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createWorld, settle, type World } from "./world.ts";

let world: World;
let service: ServiceProcess;

beforeAll(async () => {
  world = await createWorld();
  await world.makeStreams();
  service = await world.start();
  await eventually(() => service.ready(), { what: "readiness" });
  await settle(world, service);
});
afterAll(() => world?.dispose());

const asService = { kind: "service", name: "gateway" } as const;
const operator = { kind: "operator" } as const;
const read = (path = "sessions") => service.call("GET", `/v1/analytics/${path}`, { as: operator });
const track = (name: string) => service.call("POST", "/v1/track", { body: { events: [{ name }] } });

async function total(name: string): Promise<number> {
  const answer = await eventually(async () => {
    const a = await read(`events?name=${name}&from=1970-01-01&interval=month`);
    return a.status === 200 ? a : undefined;
  });
  return answer.body.total;
}

const many = (name: string, n: number) =>
  Array.from({ length: n }, (_, i) =>
    emit.track(`t:${name}:${i}`, { name, userId: uuidv7(), properties: { i } }, { time: new Date(1e12 + i) }),
  );

test("ClickHouse frozen: reads are 503 and say when to come again, tracking goes on, and nothing is lost", async () => {
  world.clickhouse.freeze();
  try {
    const answers = await Promise.all([
      read(),
      read("signups"),
      read("funnel?steps=a,b"),
      read("top?name=a&property=b"),
    ]);
    for (const answer of answers) {
      expect(answer.status).toBe(503);
      expect(answer.headers.get("retry-after")).toMatch(/^\d+$/);
      expect(answer.body.detail).not.toMatch(/127\.0\.0\.1|analytics_service/);
    }
    expect((await read("signups?from=never")).status).toBe(400);
    expect((await track("frozen")).status).toBe(202);
    expect((await service.call("GET", "/internal/status", { as: asService })).body).toMatchObject({
      store: { up: false },
      nats: { up: true },
    });
    expect((await fetch(`${service.adminUrl}/livez`)).status).toBe(200);
    expect(await service.ready()).toBe(false);
  } finally {
    world.clickhouse.thaw();
  }
  await settle(world, service);
  expect(await total("frozen")).toBe(1);
  await eventually(() => service.ready());
});

test("NATS frozen: tracking is 503, reads go on; a repeat after it counts once", async () => {
  const body = { events: [{ id: "once", name: "thawed" }] };
  const position = (await track("before.ice")).headers.get("consistency-token") ?? "";
  await settle(world, service);
  world.nats.freeze();
  try {
    const answers = await Promise.all([1, 2, 3].map(() => service.call("POST", "/v1/track", { body })));
    for (const answer of answers) {
      expect(answer.status).toBe(503);
      expect(answer.headers.get("retry-after")).toMatch(/^\d+$/);
    }
    expect((await read()).status).toBe(200);
    expect(await service.ready()).toBe(true);
    const waiting = await service.call("GET", "/v1/analytics/sessions", { headers: { "consistency-token": position } });
    expect([waiting.status, waiting.headers.get("quartet-freshness")]).toEqual([200, "stale"]);
    const erasure = { as: { kind: "service", name: "user" } as const, body: { userId: uuidv7(), version: 1 } };
    expect((await service.call("POST", "/internal/erasures", erasure)).body).toMatchObject({ state: "pending" });
    await eventually(async () => {
      const { body: status } = await service.call("GET", "/internal/status", { as: asService });
      return status.nats.up === false && status.store.up === true;
    });
  } finally {
    world.nats.thaw();
  }
  await eventually(async () => (await service.call("POST", "/v1/track", { body })).status === 202);
  await settle(world, service);
  expect(await total("thawed")).toBe(1);
});

test("ClickHouse killed in the middle of inserts, three times: every fact counts once", async () => {
  const facts = many("killed", 30_000);
  await world.publish(facts.slice(0, 1000));
  await eventually(async () => (await total("killed")) > 0);
  const rest = world.publish(facts.slice(1000));
  for (let round = 0; round < 3; round++) {
    const before = await total("killed");
    await eventually(async () => (await total("killed")) > before || (await total("killed")) === 30_000);
    await world.clickhouse.kill();
    expect((await read()).status).toBe(503);
    await world.clickhouse.start();
  }
  await rest;
  await settle(world, service, 60_000);
  expect(await total("killed")).toBe(30_000);
});

test("the process killed in the middle, with all its roles apart: another goes on where it was", async () => {
  await service.kill();
  const first = await world.start({ ROLE: "projector" });
  service = await world.start({ ROLE: "api" });
  await eventually(() => service.ready());
  const facts = many("replaced", 20_000);
  const published = world.publish(facts);
  await eventually(async () => (await total("replaced")) > 0);
  await first.kill();
  await published;
  await world.start({ ROLE: "projector" });
  await settle(world, service, 90_000); // what the dead one held comes again after the acknowledgement wait
  expect(await total("replaced")).toBe(20_000);
}, 120_000);

test("an empty store gets its tables back by itself", async () => {
  await world.clickhouse.wipe();
  await world.clickhouse.start();
  await eventually(() => service.ready(), { what: "the tables" });
  expect((await track("after.wipe")).status).toBe(202);
  await settle(world, service, 60_000);
  expect(await total("after.wipe")).toBe(1);
});
