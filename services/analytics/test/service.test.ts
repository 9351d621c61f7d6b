import { type ConsistencyToken, decodeToken, emit, encodeToken, factId, uuidv7 } from "@quartet/contracts";
import { eventually, type ServiceProcess } from "@quartet/service/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createWorld, settle, type World } from "./world.ts";

let world: World;
let service: ServiceProcess;

const asUser = (userId: string) => ({ kind: "user", userId, sessionId: "s" }) as const;
const operator = { kind: "operator" } as const;
const asService = { kind: "service", name: "user" } as const;
const asGateway = { kind: "service", name: "gateway" } as const;

beforeAll(async () => {
  world = await createWorld();
  service = await world.start();
});
afterAll(() => world?.dispose());

let names = 0;
/** An event name no other test uses. */
const newName = () => `n${names++}.x`;

async function total(name: string, token?: string): Promise<number> {
  const query = new URLSearchParams({ name, from: "1970-01-01", to: "2100-01-01", interval: "month" });
  const answer = await service.call("GET", `/v1/analytics/events?${query}`, {
    ...(token ? { headers: { "consistency-token": token, prefer: "wait=10" } } : {}),
  });
  expect(answer.status).toBe(200);
  if (token) expect(answer.headers.get("preference-applied")).toBe("wait");
  return answer.body.total;
}

const track = (events: unknown[], as?: Parameters<ServiceProcess["call"]>[2] extends infer C ? C : never) =>
  service.call("POST", "/v1/track", { body: { events }, ...as });

const tokenOf = (answer: { headers: Headers }) => answer.headers.get("consistency-token") ?? "";

describe("before there are streams", () => {
  test("it is ready and answers; what needs the stream is refused, and no as-of is claimed", async () => {
    await eventually(() => service.ready(), { what: "readiness" });
    const answer = await service.call("GET", "/v1/analytics/sessions");
    expect(answer.status).toBe(200);
    expect(answer.headers.get("quartet-as-of")).toBeNull();
    expect((await track([{ name: "a" }])).status).toBe(503);
    await world.makeStreams();
    await eventually(async () => (await track([{ name: "early" }])).status === 202, { what: "the stream" });
  });
});

describe("track", () => {
  const me = uuidv7();
  const other = uuidv7();

  test.each([
    ["nobody, about nobody", undefined, null, 202],
    ["nobody, about somebody", undefined, me, 401],
    ["me, about me", asUser(me), me, 202],
    ["me, about another", asUser(me), other, 403],
    ["the operator, about anyone", operator, other, 202],
  ] as const)("%s", async (_, as, userId, status) => {
    const call = as ? { as } : {};
    expect((await track([{ name: "a" }, { name: "a", userId }], call)).status).toBe(status);
  });

  test("nothing of a refused batch counts", async () => {
    const name = newName();
    await track([{ name }, { name, userId: other }], { as: asUser(me) });
    await settle(world, service);
    expect(await total(name)).toBe(0);
  });

  test("an id counts once for a caller, as first given, in one batch and over several", async () => {
    const name = newName();
    const id = "order-1";
    const first = await track(
      [
        { id, name, properties: { v: 1 } },
        { id, name, properties: { v: 2 } },
      ],
      { as: asUser(me) },
    );
    expect([first.status, first.body]).toEqual([202, { accepted: 2 }]);
    const second = await track([{ id, name: `${name}.later`, occurredAt: "1999-01-01T00:00:00Z" }], { as: asUser(me) });
    expect(second.status).toBe(202);
    expect(await total(name, tokenOf(second))).toBe(1);
    expect(await total(`${name}.later`)).toBe(0);
    const top = await service.call("GET", `/v1/analytics/top?name=${name}&property=v`, { as: operator });
    expect(top.body.values).toEqual([{ value: 1, count: 1 }]);
    const others = await track([{ id, name }], { as: operator });
    const anonymous = await track([{ id, name }]);
    await total(name, tokenOf(others));
    expect(await total(name, tokenOf(anonymous))).toBe(3);
  });

  test("without a token an id names an event only together with what it says", async () => {
    const name = newName();
    const id = "order-1";
    const said = { id, name, occurredAt: "2025-01-01T00:00:00Z", properties: { a: 1, b: "x" } };
    const again = { ...said, occurredAt: "2025-01-01T01:00:00+01:00", properties: { b: "x", a: 1 } };
    const others = [
      { ...said, properties: { a: 2, b: "x" } },
      { ...said, properties: {} },
      { ...said, occurredAt: "2025-01-01T00:00:00.001Z" },
      // Without a time it is now, and a retry of it the same event.
      { id, name },
      { id, name },
      { ...said, name: `${name}.other` },
    ];
    await track([said, said, again]);
    await track([again]);
    const last = await track([...others, said]);
    expect(last.body).toEqual({ accepted: 7 });
    expect(await total(name, tokenOf(last))).toBe(5);
    expect(await total(`${name}.other`)).toBe(1);
    // Without an id each is one of its own.
    expect(await total(`${name}.none`, tokenOf(await track([1, 2].map(() => ({ name: `${name}.none` })))))).toBe(2);
  });

  test("what comes again after the broker forgot its id counts once, the first accepted", async () => {
    const user = uuidv7();
    const name = newName();
    const fact = (at: number) =>
      emit.track(factId.track(user, "1"), { name, userId: user, properties: {} }, { time: new Date(at) });
    await world.publish([fact(1e12)], { again: true });
    await settle(world, service);
    await world.publish([fact(9e11), fact(8e11)], { again: true });
    await settle(world, service);
    expect(await total(name)).toBe(1);
    const one = await service.call("GET", `/internal/activity/${user}`, { as: asGateway });
    expect(one.body).toEqual({ events: 1, lastEventAt: new Date(1e12).toISOString(), byName: { [name]: 1 } });
  });

  test("a thousand at once; one more is refused", async () => {
    const name = newName();
    const many = await track(Array.from({ length: 1000 }, () => ({ name })));
    expect(many.body).toEqual({ accepted: 1000 });
    expect(await total(name, tokenOf(many))).toBe(1000);
    expect((await track(Array.from({ length: 1001 }, () => ({ name })))).status).toBe(400);
  });
});

describe("bad input is told by its place", () => {
  test.each<[unknown, string]>([
    [{}, "events"],
    [{ events: [] }, "events"],
    [{ events: [{}] }, "events.0.name"],
    [{ events: [{ name: "A" }] }, "events.0.name"],
    [{ events: [{ name: "a", extra: 1 }] }, "events.0.extra"],
    [{ events: [{ name: "a", id: "with space" }] }, "events.0.id"],
    [{ events: [{ name: "a", occurredAt: "1969-12-31T23:59:59Z" }] }, "events.0.occurredAt"],
    [{ events: [{ name: "a", occurredAt: "2100-01-01T00:00:00Z" }] }, "events.0.occurredAt"],
    [{ events: [{ name: "a", occurredAt: "2025-02-30T00:00:00Z" }] }, "events.0.occurredAt"],
    [{ events: [{ name: "a", userId: "me" }] }, "events.0.userId"],
    [{ events: [{ name: "a", properties: { k: {} } }] }, "events.0.properties.k"],
    [{ events: [{ name: "a", properties: { K: 1 } }] }, "events.0.properties.K"],
    [{ events: [{ name: "a", properties: { k: "x".repeat(513) } }] }, "events.0.properties.k"],
    [{ events: [{ name: "a", properties: { k: "\ud800" } }] }, "events.0.properties.k"],
    [{ events: [{ name: "a", properties: { k: 2 ** 53 } }] }, "events.0.properties.k"],
    [
      { events: [{ name: "a", properties: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, i])) }] },
      "events.0.properties",
    ],
  ])("track %j", async (body, path) => {
    const answer = await service.call("POST", "/v1/track", { body });
    expect(answer.status).toBe(400);
    expect(answer.body.errors.map((e: { path: string }) => e.path)).toContain(path);
  });

  test("a body that is no JSON, or too large", async () => {
    expect((await service.call("POST", "/v1/track", { body: "{" })).status).toBe(400);
    const big = JSON.stringify({ events: [{ name: "a", properties: { k: "x".repeat(1_100_000) } }] });
    expect((await service.call("POST", "/v1/track", { body: big })).status).toBe(413);
  });

  test.each([
    ["signups?from=yesterday", "from"],
    ["signups?from=2025-01-02&to=2025-01-01", "to"],
    ["signups?from=2025-01-01&to=2025-01-01", "to"],
    ["signups?interval=minute", "interval"],
    ["signups?from=1970-01-01&to=2100-01-01&interval=hour", "interval"],
    ["active-users?interval=hour", "interval"],
    ["events", "name"],
    ["events?name=');DROP TABLE facts", "name"],
    ["retention?periods=0", "periods"],
    ["retention?periods=53", "periods"],
    ["retention?cohort=hour", "cohort"],
    ["funnel?steps=a", "steps"],
    ["funnel?steps=a,B", "steps.1"],
    ["funnel?steps=a,b&within=1y", "within"],
    ["funnel?steps=a,b&within=367d", "within"],
    ["top?name=a", "property"],
    ["top?name=a&property=k&limit=101", "limit"],
    ["top?name=a&property=k&limit=1e1", "limit"],
  ])("%s", async (query, path) => {
    const answer = await service.call("GET", `/v1/analytics/${query}`, { as: operator });
    expect(answer.status).toBe(400);
    expect(answer.body.errors.map((e: { path: string }) => e.path)).toContain(path);
  });

  test("a token that is none", async () => {
    const answer = await service.call("GET", "/v1/analytics/sessions", {
      headers: { "consistency-token": "nonsense" },
    });
    expect([answer.status, answer.body.errors[0].path]).toEqual([400, "Consistency-Token"]);
  });

  test("values that somebody sent are for the operator", async () => {
    const path = "/v1/analytics/top?name=a&property=k";
    expect((await service.call("GET", path)).status).toBe(401);
    expect((await service.call("GET", path, { as: asUser(uuidv7()) })).status).toBe(403);
    expect((await service.call("GET", path, { as: asService })).status).toBe(403);
    expect((await service.call("GET", path, { as: operator })).status).toBe(200);
  });

  test("internal calls are for services", async () => {
    const path = `/internal/activity/${uuidv7()}`;
    expect((await service.call("GET", path)).status).toBe(401);
    expect((await service.call("GET", path, { as: operator })).status).toBe(403);
  });
});

describe("freshness", () => {
  const read = (token: ConsistencyToken, wait = 10) =>
    service.call("GET", "/v1/analytics/sessions", {
      headers: { "consistency-token": encodeToken(token), prefer: `wait=${wait}` },
    });

  test("the as-of follows the heartbeats, and never goes back", async () => {
    const later = await settle(world, service);
    await world.heartbeat(new Date(1e12));
    const mark = newName();
    await total(mark, tokenOf(await track([{ name: mark }])));
    const answer = await service.call("GET", "/v1/analytics/sessions");
    expect((answer.headers.get("quartet-as-of") ?? "") >= later).toBe(true);
  });

  test("a reader waits for a user's version, a fact, an instant", async () => {
    const user = uuidv7();
    const at = new Date();
    const waits = [
      read({ u: [[user, 3]] }),
      read({ f: [factId.sessionStarted("w")] }),
      read({ a: { user: at.toISOString(), session: at.toISOString() } }),
    ];
    await world.publish([
      emit.userFact("updated", user, 3, { time: at }),
      emit.sessionStarted(user, "w", { time: at }),
    ]);
    await world.heartbeat(at);
    for (const answer of await Promise.all(waits)) {
      expect(answer.headers.get("preference-applied")).toBe("wait");
      expect(answer.headers.get("quartet-freshness")).toBeNull();
    }
  });

  test("what does not come is told as stale, and the rest is answered", async () => {
    const real = decodeToken(tokenOf(await track([{ name: "a" }])));
    const never: ConsistencyToken[] = [
      { u: [[uuidv7(), 1]] },
      { f: ["s:never:started"] },
      { a: { user: "2099-01-01T00:00:00.000Z" } },
      // The same position in a stream that was since lost and made anew.
      { t: { seq: real.t?.seq ?? 0, stream: "2020-01-01T00:00:00Z" } },
    ];
    for (const answer of await Promise.all(never.map((token) => read(token, 1)))) {
      expect(answer.status).toBe(200);
      expect(answer.headers.get("quartet-freshness")).toBe("stale");
      expect(answer.headers.get("preference-applied")).toBeNull();
    }
  });
});

describe("erasure", () => {
  test("the counts stay, the person goes, and what comes late or again is anonymous", async () => {
    const user = uuidv7();
    const name = newName();
    await track([{ id: "1", name, userId: user, properties: { secret: "x" } }], { as: asUser(user) });
    await world.publish([emit.userFact("created", user, 1, { time: new Date() })]);
    await settle(world, service);
    await world.publish([emit.userFact("erased", user, 2, { time: new Date() })]);
    await eventually(
      async () => {
        const answer = await service.call("POST", "/internal/erasures", {
          as: asService,
          body: { userId: user, version: 2 },
        });
        return answer.body.state === "complete";
      },
      { what: "the erasure" },
    );
    await track([{ id: "2", name, userId: user, properties: { secret: "x" } }], { as: asUser(user) });
    await world.publish(
      [emit.track(factId.track(user, "1"), { name, userId: user, properties: { secret: "x" } }, { time: new Date(1) })],
      { again: true },
    );
    await settle(world, service);
    expect(await total(name)).toBe(2);
    const activity = await service.call("GET", `/internal/activity/${user}`, { as: asGateway });
    expect(activity.body).toEqual({ events: 0, lastEventAt: null, byName: {} });
    const top = await service.call("GET", `/v1/analytics/top?name=${name}&property=secret&from=1970-01-01`, {
      as: operator,
    });
    expect(top.body.values).toEqual([]);
  });

  test("is not complete while a message that names the person is still to be applied", async () => {
    const user = uuidv7();
    // Known as erased here already, by the call alone; the projector stands still.
    world.clickhouse.freeze();
    try {
      await world.publish([emit.sessionStarted(user, uuidv7(), { time: new Date() })]);
    } finally {
      world.clickhouse.thaw();
    }
    await eventually(async () => {
      const answer = await service.call("POST", "/internal/erasures", {
        as: asService,
        body: { userId: user, version: 2 },
      });
      return answer.body.state === "complete";
    });
    const activity = await service.call("GET", `/internal/activity/${user}`, { as: asGateway });
    expect(activity.body.events).toBe(0);
  });
});

describe("what cannot be applied", () => {
  test("is parked, and holds nothing up", async () => {
    const js = (await world.nc()).jetstream();
    await js.publish("facts.track.a.-", "{}");
    await js.publish("facts.track.a.-", "no JSON");
    const { event } = emit.track("t:x", { name: "a", userId: uuidv7(), properties: {} }, { time: new Date() });
    await js.publish("facts.track.a.-", JSON.stringify(event)); // subject and person differ: its erasure would not find it
    await settle(world, service);
    const dead = await (await world.nc()).jetstreamManager().then((m) => m.streams.info("DEAD"));
    expect(dead.state.messages).toBe(3);
    await eventually(async () => {
      const { body } = await service.call("GET", "/internal/status", { as: asGateway });
      return body.projectors.analytics.deadLetters === 3 && body.projectors.analytics.lag <= 4;
    });
  });
});

describe("a log that is nearly full", () => {
  test("refuses tracked events and says why; what stands in an outbox still gets in", async () => {
    const jsm = await (await world.nc()).jetstreamManager();
    const { config, state } = await jsm.streams.info("FACTS");
    await jsm.streams.update("FACTS", { ...config, max_bytes: Math.ceil(state.bytes / 0.91) + 4096 });
    const user = uuidv7();
    try {
      const refused = await eventually(async () => {
        const answer = await track([{ name: "a", properties: { fill: "x".repeat(500) } }]);
        return answer.status === 503 ? answer : undefined;
      });
      expect(refused.body.type).toBe("urn:quartet:problem:log-full");
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
      await world.publish([emit.userFact("created", user, 1, { time: new Date() })]);
    } finally {
      await jsm.streams.update("FACTS", { ...config, max_bytes: -1 });
    }
    await eventually(async () => (await track([{ name: "a" }])).status === 202, { what: "room again" });
  });
});
