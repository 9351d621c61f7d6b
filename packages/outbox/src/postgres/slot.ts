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
  /** Somebody is making it: it cannot be read from yet. */
  unfinished: boolean;
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
SELECT active, active_pid, confirmed_flush_lsn IS NULL AS unfinished, wal_status, coalesce(invalidation_reason, CASE wal_status WHEN 'lost' THEN 'wal_removed' END) AS invalidated,
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
    unfinished: row.unfinished,
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
 * It waits for every transaction that is writing now, anywhere in the server, and for those that began until then: as long as the longest of them. The
 * right to make it is a lock of a session of its own, which the server ends when it has not heard of it for `deadAfterMs`: a relay that is
 * frozen meanwhile is replaced, and what it was making is given up.
 */
export async function makeSlot(
  db: pg.Pool,
  slot: string,
  streams: string[],
  deadAfterMs: number,
): Promise<SlotMaking | undefined> {
  const failed = (error: unknown) =>
    new StoreError(`replication slot ${slot} cannot be made: ${(error as Error).message}`, { cause: error });
  const right = await db.connect();
  let maker: pg.PoolClient | undefined;
  let alive: NodeJS.Timeout | undefined;
  const end = () => {
    clearInterval(alive);
    // Ends the connections, and with one of them the lock.
    right.release(true);
    maker?.release(true);
  };
  try {
    const lock = "SELECT pg_try_advisory_lock(hashtext('outbox slot'), hashtext($1)) AS mine";
    if (!(await right.query(lock, [slot])).rows[0].mine) {
      right.release();
      return undefined;
    }
    const lost = Promise.withResolvers<never>();
    lost.promise.catch(() => {});
    right.on("error", lost.reject);
    await right.query("SELECT set_config('idle_session_timeout', $1, false)", [`${deadAfterMs}ms`]);
    alive = setInterval(() => right.query("SELECT").catch(lost.reject), deadAfterMs / 5);
    const found = (await right.query(SLOT, [slot])).rows[0];
    if (found && !found.invalidated) {
      // Its maker has lost the right to make it.
      if (found.unfinished) await right.query("SELECT pg_terminate_backend($1)", [found.active_pid]);
      end();
      return undefined;
    }
    await noteOwed(right, slot, streams);
    if (found) await right.query("SELECT pg_drop_replication_slot($1)", [slot]);
    maker = await db.connect();
    maker.on("error", lost.reject);
    // The server is to notice while it waits that nobody waits for it any more.
    const begin = await maker.query(
      "SELECT pg_backend_pid() AS pid, set_config('client_connection_check_interval', '2s', false), set_config('statement_timeout', '0', false)",
    );
    const { pid } = begin.rows[0] as { pid: number };
    const text = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')";
    const making = maker.query({ text, values: [slot], query_timeout: NO_TIMEOUT_MS } as pg.QueryConfig);
    const created = Promise.race([making, lost.promise])
      .then(() => {})
      .catch((error) => {
        throw failed(error);
      })
      .finally(end);
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
    end();
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
