import { createTestEngine, type TestEngine } from "@quartet/engines";
import type { PoolClient } from "pg";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { deleteOutboxRows, dropOldPartitions, ensurePartitions, outboxMigration, partitionName } from "../src/index.ts";
import { newestTransactionOf } from "../src/postgres/partitions.ts";
import { makeWorld, type World } from "./support/world.ts";

let postgres: TestEngine;
let nats: TestEngine;
let world: World;

beforeAll(async () => {
  [postgres, nats] = await Promise.all([createTestEngine("postgres"), createTestEngine("nats")]);
});
afterAll(async () => {
  await postgres?.dispose();
  await nats?.dispose();
});
afterEach(() => world?.dispose());

const day = (offset: number) => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10);
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

async function withClient<T>(use: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await world.pool.connect();
  try {
    return await use(client);
  } finally {
    client.release();
  }
}

const insert = (offset: number, key: string, rows = 1) =>
  world.pool.query(
    `INSERT INTO outbox (day, event_id, stream, subject, key, payload)
     SELECT $1, 'e' || n, $2, $3, $4, repeat('x', 200) FROM generate_series(1, $5) AS n`,
    [day(offset), world.facts, `facts${world.n}.a`, key, rows],
  );

test("rows can be deleted whoever publishes every table, in partitions old, new and default", async () => {
  world = await makeWorld(postgres, nats);
  // As an older release left them.
  for (const table of ["outbox", "outbox_default", partitionName(day(0))])
    await world.pool.query(`ALTER TABLE ${table} REPLICA IDENTITY DEFAULT`);
  await world.admin.query("CREATE PUBLICATION everything FOR ALL TABLES");
  await insert(0, "a");
  await insert(1, "a");
  await insert(90, "a");
  await insert(0, "b");
  await expect(deleteOutboxRows(world.pool, "a")).rejects.toMatchObject({ code: "55000" });

  await withClient((client) => ensurePartitions(client, 5));
  await insert(5, "a");
  expect(await deleteOutboxRows(world.pool, "a")).toBe(4);
  expect((await world.pool.query("SELECT key FROM outbox")).rows).toEqual([{ key: "b" }]);
  // Every table of the outbox, at any time, can say which row it deletes.
  const unidentified = await world.pool.query(
    `SELECT c.relname FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
      WHERE s.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT (c.relreplident = 'f'
        OR c.relreplident = 'd' AND EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary))`,
  );
  expect(unidentified.rows).toEqual([]);
});

test("whether a day may go is decided without reading it", async () => {
  world = await makeWorld(postgres, nats);
  const name = partitionName(day(-9));
  await world.pool.query(`CREATE TABLE ${name} PARTITION OF outbox FOR VALUES FROM ('${day(-9)}') TO ('${day(-8)}')`);
  await insert(-9, "a", 1_000);
  const blocks = async (): Promise<number> => {
    const sql = `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${newestTransactionOf(name)}`;
    const plan = (await world.pool.query(sql)).rows[0]["QUERY PLAN"][0].Plan;
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];
  };
  await world.pool.query(`ANALYZE ${name}`);
  const few = await blocks();
  for (let i = 0; i < 4; i++) await insert(-9, "a", 25_000);
  const size = await world.pool.query("SELECT relpages FROM pg_class WHERE relname = $1", [name]);
  expect(size.rows[0].relpages).toBeLessThan(100);
  // Also by what the planner knew of it before it grew.
  expect(await blocks()).toBeLessThan(few + 10);
  await world.pool.query(`ANALYZE ${name}`);
  expect(await blocks()).toBeLessThan(few + 10);

  const options = { slot: world.slot, streams: [world.facts], retentionDays: 3, logger: SILENT };
  const checkpoint = (horizon: string) =>
    world.pool.query(
      `INSERT INTO outbox_checkpoint (slot, stream, system_id, incarnation, sequence, horizon, lsn)
       VALUES ($1, $2, '1', 'x', 1, ${horizon}, '0/0')`,
      [world.slot, world.facts],
    );
  const newest = (await world.pool.query(`SELECT max(txid)::text AS txid FROM ${name}`)).rows[0].txid as string;
  await checkpoint(`'${newest}'::xid8`);
  expect(await withClient((client) => dropOldPartitions(client, options))).toEqual([]);
  await checkpoint("pg_current_xact_id()");
  expect(await withClient((client) => dropOldPartitions(client, options))).toEqual([name]);
});

test("a partition of an older release gets its index when its day is over", async () => {
  world = await makeWorld(postgres, nats);
  const old = partitionName(day(-1));
  await world.pool.query("DROP INDEX outbox_txid");
  await world.pool.query(`CREATE TABLE ${old} PARTITION OF outbox FOR VALUES FROM ('${day(-1)}') TO ('${day(0)}')`);
  await insert(-1, "a", 10);
  for (const statement of outboxMigration("outbox_pub")) await world.pool.query(statement);
  await withClient((client) => ensurePartitions(client, 5));
  const indexed = async (table: string) =>
    (await world.pool.query("SELECT FROM pg_indexes WHERE tablename = $1 AND indexdef LIKE '%(txid)'", [table]))
      .rowCount;
  expect(await indexed(old)).toBe(1);
  // Today's is being written to; tomorrow it is over.
  expect(await indexed(partitionName(day(0)))).toBe(0);
  expect(await indexed(partitionName(day(5)))).toBe(1);
});

test("what the default partition holds of days that are over goes in pieces", async () => {
  world = await makeWorld(postgres, nats);
  await insert(-9, "a", 12_000);
  await insert(40, "b", 10);
  await world.pool.query(
    `INSERT INTO outbox_checkpoint (slot, stream, system_id, incarnation, sequence, horizon, lsn)
     VALUES ($1, $2, '1', 'x', 1, pg_current_xact_id(), '0/0')`,
    [world.slot, world.facts],
  );
  const options = { slot: world.slot, streams: [world.facts], retentionDays: 3, logger: SILENT };
  await withClient((client) => dropOldPartitions(client, options));
  expect((await world.pool.query("SELECT count(*)::int AS n FROM outbox_default")).rows[0].n).toBe(10);
});
