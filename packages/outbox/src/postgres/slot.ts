import type pg from "pg";
import { StoreError } from "../errors.ts";

export interface SlotState {
  active: boolean;
  /** "reserved", "extended", "unreserved" or "lost". */
  walStatus: string | null;
  /** Why the server gave the slot up, if it did. */
  invalidated: string | null;
  confirmed: bigint;
  /** End of the WAL now. */
  walEnd: bigint;
}

/** pg_lsn as text ("16/B374D848") to a position in bytes. */
export function parseLsn(text: string): bigint {
  const [high, low] = text.split("/");
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}

export function formatLsn(position: bigint): string {
  return `${(position >> 32n).toString(16).toUpperCase()}/${(position & 0xffffffffn).toString(16).toUpperCase()}`;
}

const SLOT = `
SELECT active, wal_status, coalesce(invalidation_reason, CASE wal_status WHEN 'lost' THEN 'wal_removed' END) AS invalidated,
       coalesce(confirmed_flush_lsn, '0/0')::text AS confirmed, pg_current_wal_lsn()::text AS wal_end
FROM pg_replication_slots WHERE slot_name = $1 AND database = current_database()`;

/** The slot as the server sees it, or undefined if there is none. */
export async function readSlot(db: pg.Pool, slot: string): Promise<SlotState | undefined> {
  const row = (await db.query(SLOT, [slot])).rows[0];
  if (!row) return undefined;
  return {
    active: row.active,
    walStatus: row.wal_status,
    invalidated: row.invalidated,
    confirmed: parseLsn(row.confirmed),
    walEnd: parseLsn(row.wal_end),
  };
}

/**
 * What the new slot will not see has to come from the table. Written before the slot is made, so that a relay that dies in between leaves
 * the debt behind; a debt that is open already reaches further back and stays. No checkpoint: everything retained.
 */
const RECORD_DEBT = `
INSERT INTO outbox_relay (slot, resend_from)
SELECT $1, coalesce((SELECT min(horizon) FROM (
  SELECT DISTINCT ON (stream) horizon FROM outbox_checkpoint WHERE slot = $1 AND NOT refuted ORDER BY stream, at DESC
) newest), '0'::xid8)
ON CONFLICT (slot) DO UPDATE SET resend_from = least(outbox_relay.resend_from, excluded.resend_from)`;

/**
 * Makes the slot, after dropping one that the server has invalidated, and records that the gap is to be sent from the table. One
 * replica at a time: returns false if another one is at it.
 */
export async function recreateSlot(db: pg.Pool, slot: string): Promise<boolean> {
  const client = await db.connect();
  try {
    const lock = await client.query("SELECT pg_try_advisory_lock(hashtext('outbox slot'), hashtext($1)) AS mine", [
      slot,
    ]);
    if (!lock.rows[0].mine) return false;
    const found = await client.query(SLOT, [slot]);
    if (found.rows[0] && !found.rows[0].invalidated) return true;
    await client.query(RECORD_DEBT, [slot]);
    if (found.rows[0]) await client.query("SELECT pg_drop_replication_slot($1)", [slot]);
    // Waits for every transaction that is writing now, so it may take as long as the longest of them.
    await client.query("SET statement_timeout = '120s'");
    const text = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')";
    await client.query({ text, values: [slot], query_timeout: 120_000 } as pg.QueryConfig);
    return true;
  } catch (error) {
    throw new StoreError(`replication slot ${slot} cannot be made: ${(error as Error).message}`, { cause: error });
  } finally {
    // Ends the connection, and with it the lock.
    client.release(true);
  }
}

/** The transaction from which rows are still to be sent from the table, and the last one whose rows retention has dropped. */
export async function readRelayRow(
  db: pg.Pool,
  slot: string,
): Promise<{ resendFrom: string | null; droppedUntil: string | null }> {
  const sql = "SELECT resend_from::text, dropped_until::text FROM outbox_relay WHERE slot = $1";
  const row = (await db.query(sql, [slot])).rows[0];
  return { resendFrom: row?.resend_from ?? null, droppedUntil: row?.dropped_until ?? null };
}

export async function settleDebt(db: pg.Pool, slot: string): Promise<void> {
  await db.query("UPDATE outbox_relay SET resend_from = NULL WHERE slot = $1", [slot]);
}
