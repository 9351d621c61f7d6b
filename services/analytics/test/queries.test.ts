import { createTestEngine, type TestEngine } from "@quartet/engines";
import { eventually, type ServiceProcess, startService } from "@quartet/service/testing";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ClickHouse, createClickHouse } from "../src/store/client.ts";
import { countedAmong, countFacts, type Fact, insertFacts } from "../src/store/facts.ts";
import { migrate } from "../src/store/migrations.ts";
import { counted, factLists, type Interval, model, NAMES, ranges } from "./model.ts";

let engine: TestEngine;
let clickhouse: ClickHouse;
let service: ServiceProcess;

beforeAll(async () => {
  engine = await createTestEngine("clickhouse");
  const url = engine.urlFor("analytics");
  clickhouse = createClickHouse({
    url,
    timeoutMs: 10_000,
    lanes: { small: 4, heavy: 1 },
    maxMemoryBytes: 512 * 1024 * 1024,
  });
  service = await startService("analytics", new URL("../src/main.ts", import.meta.url), {
    CLICKHOUSE_URL: url,
    NATS_URL: "nats://127.0.0.1:1",
    ROLE: "api",
  });
  await eventually(() => service.ready(), { what: "the tables" });
  await migrate(clickhouse); // again, and by another process: nothing happens
});

afterAll(async () => {
  await service?.kill();
  await clickhouse?.close();
  await engine?.dispose();
});

async function fill(facts: Fact[]): Promise<void> {
  await clickhouse.execute("TRUNCATE TABLE facts SYNC");
  // Several parts, the later ones first, so that nothing is right only because it was merged or in order.
  for (const part of [facts.slice(0, facts.length / 2), facts.slice(facts.length / 2)].reverse()) {
    await insertFacts(clickhouse, [...part].reverse());
  }
}

async function ask(path: string, query: Record<string, string | number>) {
  const text = new URLSearchParams(Object.entries(query).map(([k, v]): [string, string] => [k, String(v)])).toString();
  const answer = await service.call("GET", `/v1/analytics/${path}?${text}`, { as: { kind: "operator" } });
  expect([answer.status, answer.body.detail]).toEqual([200, undefined]);
  return answer.body;
}

const iso = (ms: number) => new Date(ms).toISOString();
const anyInterval = fc.constantFrom<Interval>("hour", "day", "week", "month");
const wide = fc.constantFrom<Interval>("day", "week", "month");

/** Every answer over HTTP equals the model's, for any facts. */
function same<T>(options: fc.Arbitrary<T>, check: (facts: Fact[], options: T) => Promise<void>) {
  return async () => {
    await fc.assert(
      fc.asyncProperty(factLists(), fc.array(options, { minLength: 4, maxLength: 4 }), async (facts, several) => {
        await fill(facts);
        for (const one of several) await check(facts, one);
      }),
      { numRuns: 25 },
    );
  };
}

describe("every question is answered as by counting with one's fingers", () => {
  test(
    "signups, events",
    same(fc.record({ interval: anyInterval, range: ranges(60), name: fc.constantFrom(...NAMES) }), async (facts, o) => {
      const common = { from: iso(o.range.from), to: iso(o.range.to), interval: o.interval };
      expect(await ask("signups", common)).toEqual(model.signups(facts, o.interval, o.range));
      expect(await ask("events", { ...common, name: o.name })).toEqual(
        model.events(facts, o.name, o.interval, o.range),
      );
    }),
  );

  test(
    "active users, sessions",
    same(fc.record({ interval: wide, range: ranges(100) }), async (facts, { interval, range }) => {
      const common = { from: iso(range.from), to: iso(range.to) };
      expect(await ask("active-users", { ...common, interval })).toEqual(model.activeUsers(facts, interval, range));
      expect(await ask("sessions", common)).toEqual(model.sessions(facts, range));
    }),
  );

  test(
    "retention",
    same(
      fc.record({ cohort: wide, periods: fc.integer({ min: 1, max: 52 }), range: ranges(100) }),
      async (facts, { cohort, periods, range }) => {
        const query = { from: iso(range.from), to: iso(range.to), cohort, periods };
        expect(await ask("retention", query)).toEqual(model.retention(facts, cohort, periods, range));
      },
    ),
  );

  test(
    "funnel, with repeated steps and equal times",
    same(
      fc.record({
        steps: fc.array(fc.constantFrom(...NAMES), { minLength: 2, maxLength: 5 }),
        within: fc.constantFrom<[string, number]>(["1s", 1e3], ["1h", 36e5], ["3h", 108e5], ["30d", 2592e6]),
        range: ranges(100),
      }),
      async (facts, { steps, within, range }) => {
        const query = { from: iso(range.from), to: iso(range.to), steps: steps.join(","), within: within[0] };
        expect(await ask("funnel", query)).toEqual(model.funnel(facts, steps, within[1], range));
      },
    ),
  );

  test(
    "top",
    same(
      fc.record({
        name: fc.constantFrom(...NAMES),
        property: fc.constantFrom("p", "q", "absent"),
        limit: fc.integer({ min: 1, max: 6 }),
        range: ranges(200),
      }),
      async (facts, { name, property, limit, range }) => {
        const query = { from: iso(range.from), to: iso(range.to), name, property, limit };
        expect((await ask("top", query)).values).toEqual(model.top(facts, name, property, limit, range));
      },
    ),
  );

  test("a fact counts once", async () => {
    await fc.assert(
      fc.asyncProperty(factLists(), async (facts) => {
        await fill(facts);
        expect(await countFacts(clickhouse.questionsOf({ client: "test" }))).toBe(counted(facts).length);
        const ids = facts.slice(0, 20).map((f) => f.id);
        expect(await countedAmong(clickhouse, [...ids, "t:never"])).toEqual(new Set(ids));
      }),
      { numRuns: 10 },
    );
  });
});

describe("funnel, by hand", () => {
  const USER = "01a00000-0000-7000-8000-000000000001";
  const journey = (...events: [name: string, at: number][]): Fact[] =>
    events.map(([name, at], i) => ({
      id: `t:${i}`,
      kind: "track",
      name,
      userId: USER,
      occurredAt: at,
      acceptedAt: BigInt(i),
      sequence: i,
    }));
  const level = async (facts: Fact[], steps: string, within = "10s") => {
    await fill(facts);
    const { steps: found } = await ask("funnel", { steps, within, from: iso(0), to: "2000-01-01" });
    return (found as { users: number }[]).map((s) => s.users).reduce((a, b) => a + b, 0);
  };
  test.each<[string, [string, number][], string, number]>([
    ["one event serves one step", [["a", 0]], "a,a", 1],
    [
      "two do",
      [
        ["a", 0],
        ["a", 0],
      ],
      "a,a",
      2,
    ],
    [
      "equal times go by acceptance",
      [
        ["b", 5],
        ["a", 5],
      ],
      "a,b",
      1,
    ],
    [
      "and the other way round",
      [
        ["a", 5],
        ["b", 5],
      ],
      "a,b",
      2,
    ],
    [
      "the window counts from the first step, inclusive",
      [
        ["a", 0],
        ["b", 10_000],
      ],
      "a,b",
      2,
    ],
    [
      "one ms too late",
      [
        ["a", 0],
        ["b", 10_001],
      ],
      "a,b",
      1,
    ],
    [
      "a later first step saves it",
      [
        ["a", 0],
        ["a", 5_000],
        ["b", 10_001],
      ],
      "a,b",
      2,
    ],
    [
      "but not between the others",
      [
        ["a", 0],
        ["b", 4_000],
        ["a", 5_000],
        ["c.d", 10_001],
      ],
      "a,b,c.d",
      2,
    ],
    [
      "a return in the middle",
      [
        ["a", 0],
        ["b", 1],
        ["a", 2],
        ["b", 3],
      ],
      "a,b,a,b",
      4,
    ],
  ])("%s", async (_, events, steps, users) => {
    expect(await level(journey(...events), steps)).toBe(users);
  });
});
