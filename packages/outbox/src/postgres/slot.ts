import type pg from "pg";
import { StoreError } from "../errors.ts";
import { pause } from "../loop.ts";
import type { Blocker } from "../types.ts";
import { noteOwed } from "./owed.ts";

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

/** A slot that is being made. */
export interface SlotMaking {
  /** Resolves once it stands; rejects if it cannot be made. */
  created: Promise<void>;
  /** Whom it waits for now. */
  blocker(): Promise<Blocker | undefined>;
  /** Gives up, and with it the right to make it. */
  abandon(): Promise<void>;
}

const BLOCKER = `
SELECT b.pid, coalesce(a.application_name, p.gid, '') AS application, coalesce(a.usename, p.owner) AS user, a.state,
       upper(substring(a.query FROM '^\\s*([A-Za-z]+)')) AS query,
       extract(epoch FROM now() - coalesce(a.xact_start, p.prepared))::int AS seconds
FROM unnest(pg_blocking_pids($1)) AS b (pid)
LEFT JOIN pg_stat_activity a ON a.pid = b.pid
LEFT JOIN LATERAL (SELECT * FROM pg_prepared_xacts ORDER BY prepared LIMIT 1) p ON b.pid = 0
ORDER BY seconds DESC NULLS LAST LIMIT 1`;

/** As good as none; the driver takes 0 for "as the pool has it". */
const NO_TIMEOUT_MS = 2 ** 31 - 1;

/**
 * Begins to make the slot, after dropping one that the server has invalidated. What it will not see has to come from the table: that is written down
 * first, so that a relay that dies in between leaves the note behind. One replica at a time, for as long as the making lasts: undefined if another one
 * is at it, or if there is nothing to make.
 *
 * It waits for every transaction that is writing now, anywhere in the server, and for those that began until then: as long as the longest of them.
 */
export async function makeSlot(db: pg.Pool, slot: string, streams: string[]): Promise<SlotMaking | undefined> {
  const client = await db.connect();
  const failed = (error: unknown) =>
    new StoreError(`replication slot ${slot} cannot be made: ${(error as Error).message}`, { cause: error });
  try {
    // The server is to notice while it waits that nobody waits for it any more, and let another replica have the lock.
    const begin = await client.query(
      `SELECT pg_try_advisory_lock(hashtext('outbox slot'), hashtext($1)) AS mine, pg_backend_pid() AS pid,
              set_config('client_connection_check_interval', '2s', false), set_config('statement_timeout', '0', false)`,
      [slot],
    );
    const { mine, pid } = begin.rows[0] as { mine: boolean; pid: number };
    const found = mine ? (await client.query(SLOT, [slot])).rows[0] : undefined;
    if (!mine || (found && !found.invalidated)) {
      client.release(true);
      return undefined;
    }
    await noteOwed(client, slot, streams);
    if (found) await client.query("SELECT pg_drop_replication_slot($1)", [slot]);
    const text = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')";
    const created = client
      .query({ text, values: [slot], query_timeout: NO_TIMEOUT_MS } as pg.QueryConfig)
      .then(() => client.release(true))
      .catch((error) => {
        client.release(true);
        throw failed(error);
      });
    created.catch(() => {});
    return {
      created,
      blocker: async () => (await db.query<Blocker>(BLOCKER, [pid])).rows[0],
      abandon: async () => {
        const done = await Promise.race([created.then(() => true), pause(0).then(() => false)]).catch(() => true);
        if (!done) await db.query("SELECT pg_terminate_backend($1)", [pid]).catch(() => {});
      },
    };
  } catch (error) {
    // Ends the connection, and with it the lock.
    client.release(true);
    throw failed(error);
  }
}

/** The last transaction whose rows the retention has dropped; `resendFrom`: a note of an earlier release that all streams are owed rows. */
export async function readRelayRow(
  db: pg.Pool,
  slot: string,
): Promise<{ resendFrom: string | null; droppedUntil: string | null }> {
  const sql = "SELECT resend_from::text, dropped_until::text FROM outbox_relay WHERE slot = $1";
  const row = (await db.query(sql, [slot])).rows[0];
  return { resendFrom: row?.resend_from ?? null, droppedUntil: row?.dropped_until ?? null };
}

/** Takes the note of an earlier release over. */
export async function takeOverDebt(db: pg.Pool, slot: string, streams: string[]): Promise<void> {
  await noteOwed(db, slot, streams);
  await db.query("UPDATE outbox_relay SET resend_from = NULL WHERE slot = $1", [slot]);
}

/** The identifier of the database cluster: a transaction number means nothing in another one. */
export async function readSystemId(db: pg.Pool): Promise<string> {
  return (await db.query("SELECT system_identifier::text AS id FROM pg_control_system()")).rows[0].id;
}
