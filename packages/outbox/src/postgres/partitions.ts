import type pg from "pg";
import type { RelayLogger } from "../types.ts";

const DAY_MS = 86_400_000;
const NAME = /^outbox_p(\d{4})(\d{2})(\d{2})$/;
/** A writer may wait this long behind the lock of a change to the partitions. If it cannot be had, the next round tries again. */
const LOCK_TIMEOUT_MS = 200;
/** As good as none; the driver takes 0 for "as the pool has it". */
const NO_TIMEOUT_MS = 2 ** 31 - 1;
/** Rows of the default partition that are looked at at once. */
const PIECE = 5_000;

/** Name of the partition of a UTC day given as `YYYY-MM-DD`. */
export function partitionName(day: string): string {
  return `outbox_p${day.replaceAll("-", "")}`;
}

function dayAfter(day: string, days: number): string {
  return new Date(Date.parse(day) + days * DAY_MS).toISOString().slice(0, 10);
}

async function today(client: pg.ClientBase): Promise<string> {
  return (await client.query("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day")).rows[0].day;
}

async function attached(client: pg.ClientBase): Promise<string[]> {
  const sql =
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'outbox'::regclass";
  return (await client.query(sql)).rows.map((row) => row.relname as string);
}

/** Runs statements in one transaction that gives up rather than make writers wait. Returns whether it went through. */
async function change(client: pg.ClientBase, statements: string[]): Promise<boolean> {
  await client.query("BEGIN");
  try {
    await client.query(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT_MS}ms'`);
    // The server bounds each statement; building an index may take longer than the pool lets a query take.
    for (const text of statements) await client.query({ text, query_timeout: NO_TIMEOUT_MS } as pg.QueryConfig);
    await client.query("COMMIT");
    return true;
  } catch (error) {
    await client.query("ROLLBACK");
    // lock_not_available, deadlock_detected, duplicate_table; check_violation: rows of that day are in the default partition.
    if (["55P03", "40P01", "42P07", "23514"].includes((error as { code?: string }).code ?? "")) return false;
    throw error;
  }
}

/**
 * Makes the partitions of today and of the coming days. A new table is attached rather than created as a partition: attaching takes a lock
 * that writers do not conflict with. A day whose rows already went to the default partition stays there.
 */
export async function ensurePartitions(client: pg.ClientBase, daysAhead = 3): Promise<void> {
  const first = await today(client);
  const existing = new Set(await attached(client));
  for (let i = 0; i <= daysAhead; i++) {
    const day = dayAfter(first, i);
    const name = partitionName(day);
    if (existing.has(name)) continue;
    await change(client, [
      `CREATE TABLE ${name} (LIKE outbox INCLUDING DEFAULTS INCLUDING INDEXES)`,
      `ALTER TABLE ${name} ADD CONSTRAINT ${name}_day CHECK (day >= '${day}' AND day < '${dayAfter(day, 1)}')`,
      identify(name),
      `ALTER TABLE outbox ATTACH PARTITION ${name} FOR VALUES FROM ('${day}') TO ('${dayAfter(day, 1)}')`,
      `ALTER TABLE ${name} DROP CONSTRAINT ${name}_day`,
    ]);
  }
  await completePartitions(client, partitionName(first));
}

/**
 * Should somebody publish every table (`FOR ALL TABLES`), PostgreSQL refuses to delete a row of a table that has nothing to identify it by. Nothing here has
 * a key, so that is the whole row: it costs nothing until a row is deleted, which only an erasure does.
 */
function identify(table: string): string {
  return `ALTER TABLE ${table} REPLICA IDENTITY FULL`;
}

/** Gives the tables of an older release what new ones are made with: an identity, and the index of a day that is over, when building it hinders nobody. */
async function completePartitions(client: pg.ClientBase, todays: string): Promise<void> {
  const { rows } = await client.query<{ name: string; identified: boolean; indexed: boolean }>(
    `SELECT c.relname AS name, c.relreplident = 'f' AS identified, EXISTS (
       SELECT FROM pg_index x JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
       WHERE x.indrelid = c.oid AND x.indisvalid AND a.attname = 'txid') AS indexed
     FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
     WHERE i.inhparent = 'outbox'::regclass OR c.oid = 'outbox'::regclass`,
  );
  for (const { name, identified, indexed } of rows) {
    if (!identified) await change(client, [identify(name)]);
    const over = NAME.test(name) && name < todays;
    if (over && !indexed) await change(client, ["SET LOCAL statement_timeout = 0", `CREATE INDEX ON ${name} (txid)`]);
  }
}

/**
 * Drops the days that are older than the retention, but only those of which everything is confirmed for good: no row of a transaction at or
 * above the horizon of the newest checkpoint of any stream. Remembers the newest transaction it dropped, so that the relay can tell whether
 * what it may have to send again is still complete. Rows in the default partition are deleted by the same rule.
 *
 * Nothing is dropped as long as a stream has no true checkpoint; one that is owed rows has none newer than they are. How far a day is confirmed is
 * asked of an index, whatever the day holds; what is in the default partition goes in pieces.
 * @returns the names of the dropped partitions
 */
export async function dropOldPartitions(
  client: pg.ClientBase,
  options: { slot: string; streams: string[]; retentionDays: number; logger: RelayLogger },
): Promise<string[]> {
  const { slot, streams, retentionDays, logger } = options;
  const newest = await client.query(
    `SELECT min(horizon)::text AS horizon, count(*)::int AS streams FROM (
       SELECT DISTINCT ON (stream) stream, horizon, refuted FROM outbox_checkpoint
       WHERE slot = $1 AND stream = ANY ($2) ORDER BY stream, at DESC) c WHERE NOT refuted`,
    [slot, streams],
  );
  const { horizon, streams: proven } = newest.rows[0];
  if (horizon === null || proven < streams.length) return [];

  const cutoff = dayAfter(await today(client), -retentionDays);
  const dropped: string[] = [];
  for (const name of (await attached(client)).sort()) {
    const [, year, month, date] = NAME.exec(name) ?? [];
    if (!year || `${year}-${month}-${date}` >= cutoff) continue;
    const last = await newestTransaction(client, name);
    if (last !== null && BigInt(last) >= BigInt(horizon)) {
      logger.warn({ partition: name }, "outbox partition is past its retention but not confirmed, it stays");
      continue;
    }
    if (await change(client, [rememberDropped(slot, last), `DROP TABLE ${name}`])) dropped.push(name);
  }
  while (await sweepDefault(client, slot, cutoff, horizon));
  return dropped;
}

/** The newest transaction of a partition, by its index. */
export const newestTransactionOf = (partition: string): string =>
  `SELECT txid::text FROM ${partition} ORDER BY ${partition}.txid DESC LIMIT 1`;

async function newestTransaction(client: pg.ClientBase, partition: string): Promise<string | null> {
  return (await client.query(newestTransactionOf(partition))).rows[0]?.txid ?? null;
}

/** Deletes a piece of what the default partition holds of days that are over. Returns whether there may be more. */
async function sweepDefault(client: pg.ClientBase, slot: string, cutoff: string, horizon: string): Promise<boolean> {
  const oldest = await client.query(
    `SELECT txid::text, day < $2 AS over FROM outbox_default WHERE txid < $1::xid8 ORDER BY outbox_default.txid LIMIT ${PIECE}`,
    [horizon, cutoff],
  );
  const last = oldest.rows.findLast((row) => row.over)?.txid;
  if (last === undefined) return false;
  const rows = `day < '${cutoff}' AND txid <= '${last}'::xid8`;
  const deleted = await change(client, [rememberDropped(slot, last), `DELETE FROM outbox_default WHERE ${rows}`]);
  return deleted && oldest.rows.length === PIECE;
}

function rememberDropped(slot: string, txid: string | null): string {
  const name = `'${slot.replaceAll("'", "''")}'`;
  return `INSERT INTO outbox_relay (slot, dropped_until) VALUES (${name}, ${txid === null ? "NULL" : `'${txid}'`})
    ON CONFLICT (slot) DO UPDATE SET dropped_until = greatest(outbox_relay.dropped_until, excluded.dropped_until)`;
}
