import pg from "pg";
import type { OutboxEvent } from "../types.ts";
import { Snapshot } from "./snapshot.ts";

const BATCH = 500;
/** As good as none; the driver takes 0 for "as the pool has it". */
const NO_TIMEOUT_MS = 2 ** 31 - 1;

/** What of one stream is to be read from the table. */
export interface Owed {
  stream: string;
  /** Rows of this transaction and later ones. */
  since: string;
  /** But none that this snapshot saw. */
  seen: Snapshot | undefined;
}

/** One look at the table. */
export interface Round {
  /** The store's clock, read before the snapshot was taken: whatever committed before it is in this round or an earlier one. */
  at: string;
  snapshot: Snapshot;
  /** The rows in the order in which they were emitted, per key. */
  rows: AsyncGenerator<{ event: OutboxEvent; at: number }[]>;
}

/**
 * Reads what one snapshot sees of a stream and an earlier one did not: round after round each row comes once, whatever order its transaction got
 * its number in and whenever it commits. Rows of one key come in order also across rounds, because a transaction that waited for another's row
 * lock is never seen before it. The rows have to be read to the end, or `rows.return()` called: a connection is held until then.
 */
export async function readRound(db: pg.Pool, { stream, since, seen }: Owed): Promise<Round> {
  const client = await db.connect();
  try {
    const clock = await client.query(
      `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at`,
    );
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    // The index knows what is new; what the planner believes about the share of new rows may be days old.
    await client.query("SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = off");
    const { rows } = await client.query("SELECT pg_current_snapshot()::text AS snapshot");
    const unseen = seen ? ` AND NOT pg_visible_in_snapshot(txid, ${quote(seen.text)}::pg_snapshot)` : "";
    await client.query(`DECLARE retained NO SCROLL CURSOR FOR
      SELECT event_id, stream, subject, msg_id, key, headers, payload, extract(epoch FROM created_at)::float8 AS at
      FROM outbox WHERE stream = ${quote(stream)} AND txid >= '${BigInt(since)}'::xid8${unseen} ORDER BY seq`);
    return { at: clock.rows[0].at, snapshot: new Snapshot(rows[0].snapshot), rows: fetchAll(client) };
  } catch (error) {
    client.release(error as Error);
    throw error;
  }
}

async function* fetchAll(client: pg.PoolClient): Round["rows"] {
  let done = false;
  try {
    for (;;) {
      // The first fetch sorts; it may take as long as it takes.
      const fetch = { text: `FETCH ${BATCH} FROM retained`, query_timeout: NO_TIMEOUT_MS };
      const { rows } = await client.query(fetch as pg.QueryConfig);
      if (rows.length === 0) break;
      yield rows.map((row) => ({ event: eventOf(row), at: row.at * 1000 }));
    }
    await client.query("COMMIT");
    done = true;
  } finally {
    // Whoever stops early leaves a transaction open: the connection goes with it.
    client.release(!done);
  }
}

function quote(text: string): string {
  return pg.escapeLiteral(text);
}

function eventOf(row: Record<string, string | null>): OutboxEvent {
  return {
    id: row.event_id!,
    stream: row.stream!,
    subject: row.subject!,
    msgId: row.msg_id ?? undefined,
    key: row.key!,
    headers: row.headers ? JSON.parse(row.headers) : undefined,
    payload: row.payload!,
  };
}
