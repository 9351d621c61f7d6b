import type pg from "pg";
import type { RelayLogger } from "../types.ts";

const DAY_MS = 86_400_000;
const NAME = /^outbox_p(\d{4})(\d{2})(\d{2})$/;
/** A writer may wait this long behind the lock of a change to the partitions. If it cannot be had, the next round tries again. */
const LOCK_TIMEOUT_MS = 200;

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
    for (const statement of statements) await client.query(statement);
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
      `ALTER TABLE outbox ATTACH PARTITION ${name} FOR VALUES FROM ('${day}') TO ('${dayAfter(day, 1)}')`,
      `ALTER TABLE ${name} DROP CONSTRAINT ${name}_day`,
    ]);
  }
}

/**
 * Drops the days that are older than the retention, but only those of which everything is confirmed for good: no row of a transaction at or
 * above the horizon of the newest checkpoint of any stream. Remembers the newest transaction it dropped, so that the relay can tell whether
 * what it may have to send again is still complete. Rows in the default partition are deleted by the same rule.
 *
 * Nothing is dropped as long as a stream has no true checkpoint or a slot's gap is still to be sent.
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
  const debt = await client.query("SELECT FROM outbox_relay WHERE slot = $1 AND resend_from IS NOT NULL", [slot]);
  if (horizon === null || proven < streams.length || debt.rowCount) return [];

  const cutoff = dayAfter(await today(client), -retentionDays);
  const dropped: string[] = [];
  for (const name of (await attached(client)).sort()) {
    const [, year, month, date] = NAME.exec(name) ?? [];
    if (!year || `${year}-${month}-${date}` >= cutoff) continue;
    const last = await client.query(
      `SELECT max(txid)::text AS txid, coalesce(max(txid) >= $1::xid8, false) AS open FROM ${name}`,
      [horizon],
    );
    if (last.rows[0].open) {
      logger.warn({ partition: name }, "outbox partition is past its retention but not confirmed, it stays");
      continue;
    }
    if (await change(client, [rememberDropped(slot, last.rows[0].txid), `DROP TABLE ${name}`])) dropped.push(name);
  }
  const swept = await client.query(
    "SELECT max(txid)::text AS txid FROM outbox_default WHERE day < $1 AND txid < $2::xid8",
    [cutoff, horizon],
  );
  if (swept.rows[0].txid !== null) {
    const rows = `day < '${cutoff}' AND txid < '${horizon}'::xid8`;
    await change(client, [rememberDropped(slot, swept.rows[0].txid), `DELETE FROM outbox_default WHERE ${rows}`]);
  }
  return dropped;
}

function rememberDropped(slot: string, txid: string | null): string {
  const name = `'${slot.replaceAll("'", "''")}'`;
  return `INSERT INTO outbox_relay (slot, dropped_until) VALUES (${name}, ${txid === null ? "NULL" : `'${txid}'`})
    ON CONFLICT (slot) DO UPDATE SET dropped_until = greatest(outbox_relay.dropped_until, excluded.dropped_until)`;
}
