import { createClient } from "@clickhouse/client";
import { emit, type FactEvent, type QuartetEvent } from "@quartet/contracts";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { checkProjection } from "@quartet/projection/testing";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { applyFacts, type FactStore } from "../src/events/projector.ts";
import { type ClickHouse, createClickHouse } from "../src/store/client.ts";
import { createAnonymiser, erasedAmong, recordErased } from "../src/store/erasure.ts";
import { ANONYMOUS, factKey, insertFacts } from "../src/store/facts.ts";
import { migrate } from "../src/store/migrations.ts";

let engine: TestEngine;

beforeAll(async () => {
  engine = await createTestEngine("clickhouse");
});
afterAll(() => engine?.dispose());

const PEOPLE = Array.from({ length: 3 }, (_, i) => `01a00000-0000-7000-8000-0000000000a${i}`);

/** What happened to three people; some ids come again with another body, and some people are erased in the middle. */
const histories: fc.Arbitrary<QuartetEvent[]> = fc
  .array(
    fc.oneof(
      {
        weight: 6,
        arbitrary: fc
          .tuple(fc.nat(12), fc.option(fc.nat(2), { freq: 6 }), fc.constantFrom("a", "b.c"), fc.nat(5), fc.nat(1e12))
          .map(([id, user, name, x, time]) =>
            emit.track(
              `t:${id}`,
              { name, userId: user === null ? null : (PEOPLE[user] as string), properties: { x, s: `text ${x}` } },
              { time: new Date(time) },
            ),
          ),
      },
      {
        weight: 3,
        arbitrary: fc
          .tuple(fc.nat(2), fc.nat(3), fc.nat(1000), fc.nat(1e12))
          .map(([user, session, seconds, time]) =>
            emit.sessionEnded(PEOPLE[user] as string, `s${session}`, "logout", seconds, { time: new Date(time) }),
          ),
      },
      {
        weight: 1,
        arbitrary: fc
          .tuple(fc.nat(2), fc.integer({ min: 5, max: 6 }))
          .map(([user, version]) => emit.userFact("erased", PEOPLE[user] as string, version, { time: new Date(1e12) })),
      },
      {
        weight: 1,
        arbitrary: fc
          .tuple(fc.nat(2), fc.nat(3))
          .map(([user, version]) =>
            emit.userFact("created", PEOPLE[user] as string, version, { time: new Date(9e11) }),
          ),
      },
    ),
    { maxLength: 25, size: "max" },
  )
  .map((list) => list.map((out) => out.event));

type Row = [key: string, name: string, user: string, at: string, duration: number, properties: Record<string, string>];

/** The first accepted of each id; nothing of anyone who was erased, before or after. */
function expected(history: QuartetEvent[]): Row[] {
  const events = history as FactEvent[];
  const erased = new Set(events.flatMap((e) => (e.type === "quartet.user.erased.v1" ? [e.data.userId] : [])));
  const first = new Map<string, FactEvent>();
  for (const event of events) if (!first.has(event.id)) first.set(event.id, event);
  const rows = [...first.values()].map((e): Row => {
    const anonymous = e.data.userId === null || erased.has(e.data.userId);
    const given = e.type === "quartet.track.v1" ? e.data.properties : {};
    const gone = e.data.userId !== null && anonymous;
    const properties = gone ? {} : Object.fromEntries(Object.entries(given).map(([k, v]) => [k, JSON.stringify(v)]));
    return [
      factKey(e.id),
      e.type === "quartet.track.v1" ? e.data.name : (e.type.split(".")[2] as string),
      anonymous ? ANONYMOUS : (e.data.userId as string),
      e.time,
      e.type === "quartet.session.ended.v1" ? e.data.durationSeconds : 0,
      properties,
    ];
  });
  return rows.sort(byKey);
}

const byKey = (a: Row, b: Row) => (a[0] < b[0] ? -1 : 1);

function storeOf(clickhouse: ClickHouse): FactStore {
  const anonymiser = createAnonymiser(clickhouse);
  return {
    insert: (facts) => insertFacts(clickhouse, facts),
    recordErased: (ids) => recordErased(clickhouse, ids),
    erasedAmong: (ids) => erasedAmong(clickhouse, ids),
    anonymise: () => anonymiser.run(),
    writeWatermark: async () => {},
    ping: async () => {},
  };
}

let databases = 0;
async function emptyStore() {
  const database = `analytics_${databases++}`;
  const admin = createClient({ url: engine.url });
  await admin.command({ query: `CREATE DATABASE ${database}` });
  const url = engine.urlFor("analytics").replace(/\/analytics$/, `/${database}`);
  const open = () =>
    createClickHouse({ url, timeoutMs: 10_000, lanes: { small: 4, heavy: 1 }, maxMemoryBytes: 256 * 1024 * 1024 });
  let clickhouse = open();
  await migrate(clickhouse);
  return {
    get clickhouse() {
      return clickhouse;
    },
    async restart() {
      await clickhouse.close();
      clickhouse = open();
    },
    async read(): Promise<Row[]> {
      const rows = await clickhouse.read<Record<string, unknown>>(
        `SELECT toString(id) AS key, name, toString(user_id) AS user, toUnixTimestamp64Milli(occurred_at) AS at, duration, properties
         FROM facts FINAL`,
      );
      return rows
        .map(
          (r): Row => [
            r.key as string,
            r.name as string,
            r.user as string,
            new Date(Number(r.at)).toISOString(),
            r.duration as number,
            Object.fromEntries(Object.entries(r.properties as Record<string, string>).sort()),
          ],
        )
        .sort(byKey);
    },
    async close() {
      await clickhouse.close();
      await admin.command({ query: `DROP DATABASE ${database} SYNC` });
      await admin.close();
    },
  };
}

test("any order, duplicates, cuts and restarts: the store is what the model says, and names nobody erased", async () => {
  await checkProjection<QuartetEvent, Row[]>({
    history: histories,
    model: (history) => expected(history).map(sorted),
    runs: 30,
    async fresh() {
      const store = await emptyStore();
      return {
        deliver: (batch) => applyFacts(storeOf(store.clickhouse), batch),
        read: () => store.read(),
        restart: () => store.restart(),
        close: () => store.close(),
      };
    },
  });
}, 240_000);

function sorted(row: Row): Row {
  return [row[0], row[1], row[2], row[3], row[4], Object.fromEntries(Object.entries(row[5]).sort())];
}

test("no row names an erased person, merged or not, whoever was faster", async () => {
  const store = await emptyStore();
  const person = PEOPLE[0] as string;
  const item = (id: number) => ({
    event: emit.track(`t:${id}`, { name: "a", userId: person, properties: { x: 1 } }, { time: new Date(id) }).event,
    seq: id,
    subject: "",
    time: new Date(1_700_000_000_000 + id),
    deliveries: 1,
  });
  const erasure = {
    ...item(1000),
    event: emit.userFact("erased", person, 9, { time: new Date() }).event,
  };
  try {
    const named = () =>
      store.clickhouse.read("SELECT id FROM facts WHERE user_id != toUUID({nobody:String})", { nobody: ANONYMOUS });
    const [one, other] = [storeOf(store.clickhouse), storeOf(store.clickhouse)];
    await applyFacts(one, [item(1), item(2)]);
    // Another replica does all of the erasure between the first look of this one and its insert.
    const overtaken: FactStore = {
      ...one,
      async insert(facts) {
        await applyFacts(other, [erasure]);
        await one.insert(facts);
      },
    };
    await applyFacts(overtaken, [item(3)]);
    expect(await named()).toEqual([]);
    // And again, whenever it happens to.
    await Promise.all([
      ...Array.from({ length: 10 }, (_, i) => applyFacts(one, [item(4 + i)])),
      applyFacts(other, [erasure]),
    ]);
    expect(await named()).toEqual([]);
    const [total] = await store.clickhouse.read<{ n: number; p: number }>(
      "SELECT count() AS n, countIf(notEmpty(properties)) AS p FROM facts FINAL",
    );
    expect(total).toEqual({ n: 14, p: 0 });
  } finally {
    await store.close();
  }
});
