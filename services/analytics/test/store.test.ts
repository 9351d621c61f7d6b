import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@clickhouse/client";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { eventually } from "@quartet/service/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ClickHouse, createClickHouse } from "../src/store/client.ts";
import { createAnonymiser, recordErased } from "../src/store/erasure.ts";
import { countedAmong, countFacts, type Fact, insertFacts } from "../src/store/facts.ts";
import { migrate, migrations } from "../src/store/migrations.ts";

let engine: TestEngine;
const open: ClickHouse[] = [];

beforeAll(async () => {
  engine = await createTestEngine("clickhouse");
});
afterAll(async () => {
  await Promise.all(open.map((c) => c.close()));
  await engine?.dispose();
});

function connect(database: string): ClickHouse {
  const url = engine.urlFor("analytics").replace(/\/analytics$/, `/${database}`);
  const clickhouse = createClickHouse({
    url,
    timeoutMs: 10_000,
    lanes: { small: 4, heavy: 1 },
    maxMemoryBytes: 256 * 1024 * 1024,
  });
  open.push(clickhouse);
  return clickhouse;
}

async function makeDatabase(database: string): Promise<void> {
  const admin = createClient({ url: engine.url });
  await admin.command({ query: `CREATE DATABASE ${database}` });
  await admin.close();
}

const fact = (n: number, rest: Partial<Fact> = {}): Fact => ({
  id: `t:${n}`,
  kind: "track",
  name: "a",
  userId: null,
  occurredAt: 1e12 + n,
  acceptedAt: 1_700_000_000_000_000_000n + BigInt(n),
  sequence: n,
  ...rest,
});

test("many replicas migrate one empty database at once, and again", async () => {
  await makeDatabase("analytics_replicas");
  const replicas = Array.from({ length: 8 }, () => connect("analytics_replicas"));
  await Promise.all(replicas.map(migrate));
  await Promise.all(replicas.map(migrate));
  await Promise.all(replicas.map((c) => insertFacts(c, [fact(1), fact(2)])));
  const one = replicas[0] as ClickHouse;
  expect(await countFacts(one.questionsOf({ client: "test" }))).toBe(2);
  expect(await one.read("SELECT DISTINCT version FROM migrations ORDER BY version")).toEqual(
    migrations.map(({ version }) => ({ version })),
  );
});

test("the first accepted stays, whichever comes first, before and after the engine merges", async () => {
  await makeDatabase("analytics_first");
  const clickhouse = connect("analytics_first");
  await migrate(clickhouse);
  const id = "t:same";
  const early = fact(5, { id, name: "early" });
  // The same instant, a later message; and a stream made anew, whose sequences begin again but whose clock goes on.
  const late = fact(6, { id, name: "late", acceptedAt: early.acceptedAt });
  const restored = fact(1, { id, name: "restored", acceptedAt: early.acceptedAt + 1n });
  const held = async () => (await clickhouse.read<{ name: string }>("SELECT name FROM facts FINAL")).map((r) => r.name);
  await insertFacts(clickhouse, [late]);
  await insertFacts(clickhouse, [restored]);
  expect(await held()).toEqual(["late"]);
  await insertFacts(clickhouse, [early]);
  await insertFacts(clickhouse, [restored, late]);
  expect(await held()).toEqual(["early"]);
  await clickhouse.execute("OPTIMIZE TABLE facts FINAL");
  await insertFacts(clickhouse, [restored]);
  expect(await held()).toEqual(["early"]);
  expect(await countedAmong(clickhouse, [id, "t:none"])).toEqual(new Set([id]));
});

/** Every file below a folder whose bytes hold one of the texts. */
function filesWith(path: string, texts: (string | Buffer)[]): string[] {
  try {
    if (statSync(path).isDirectory()) return readdirSync(path).flatMap((name) => filesWith(join(path, name), texts));
    const bytes = readFileSync(path);
    return texts.some((text) => bytes.includes(text)) ? [path] : [];
  } catch {
    return []; // a part that was just removed
  }
}

/** A UUID as ClickHouse stores it: two little-endian halves. */
function uuidBytes(id: string): Buffer {
  const hex = Buffer.from(id.replaceAll("-", ""), "hex");
  return Buffer.concat([hex.subarray(0, 8).reverse(), hex.subarray(8).reverse()]);
}

test("what an erasure removed is soon in no file of the engine, and the mutation's own text names nobody", async () => {
  await makeDatabase("analytics_erasure");
  const clickhouse = connect("analytics_erasure");
  await migrate(clickhouse);
  // The engine looks every half minute for what is old; here it looks every second, from its next start of the table on.
  await clickhouse.execute(
    "ALTER TABLE facts MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, cleanup_delay_period_random_add = 0",
  );
  await clickhouse.execute("DETACH TABLE facts SYNC");
  await clickhouse.execute("ATTACH TABLE facts");
  const userId = "01a00000-0000-7000-8000-0123456789ab";
  const other = "01a00000-0000-7000-8000-ba9876543210";
  const secret = "only-this-person-wrote-it";
  // Small parts, so that compression keeps the texts as they are.
  await insertFacts(clickhouse, [fact(1, { userId, properties: { secret } })]);
  await insertFacts(clickhouse, [fact(2, { userId: other, properties: { kept: "stays-as-it-is" } })]);
  const traces = [secret, userId, uuidBytes(userId)];
  expect(filesWith(engine.dir, traces).length).toBeGreaterThan(0);
  await recordErased(clickhouse, [userId]);
  await createAnonymiser(clickhouse).run();
  const rows = await clickhouse.read("SELECT toString(user_id) AS u, properties AS p FROM facts ORDER BY u");
  expect(rows).toEqual([
    { u: "00000000-0000-0000-0000-000000000000", p: {} },
    { u: other, p: { kept: '"stays-as-it-is"' } },
  ]);
  const removed = async () => {
    await sleep(500); // reading every file is work, and the engine takes its seconds
    return filesWith(engine.dir, traces).length === 0;
  };
  await eventually(removed, { withinMs: 90_000, what: "the removal of the old parts" });
  expect(filesWith(engine.dir, [uuidBytes(other)]).length).toBeGreaterThan(0);
}, 120_000);
