import type pg from "pg";
import type { OutboxEvent } from "../types.ts";

const BATCH = 500;

/** One stream and the transaction from which its rows are to be sent again. */
export interface Resend {
  stream: string;
  from: string;
}

/**
 * Walks the retained rows of the given streams in the order in which they were emitted, per key, within one snapshot. Rows that commit
 * later than that come by the WAL.
 */
export async function* retainedRows(
  db: pg.Pool,
  resends: Resend[],
): AsyncGenerator<{ event: OutboxEvent; at: number }[]> {
  const client = await db.connect();
  let broken: Error | undefined;
  try {
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    await client.query("SET LOCAL statement_timeout = 0");
    await client.query({
      text: `DECLARE retained NO SCROLL CURSOR FOR
        SELECT o.event_id, o.stream, o.subject, o.msg_id, o.key, o.headers, o.payload, extract(epoch FROM o.created_at)::float8 AS at
        FROM outbox o JOIN (VALUES ${resends.map((r) => `(${quote(r.stream)}, '${BigInt(r.from)}'::xid8)`).join(", ")}) AS r (stream, txid)
          ON o.stream = r.stream AND o.txid >= r.txid
        ORDER BY o.seq`,
    });
    for (;;) {
      // The first fetch sorts; it may take as long as it takes.
      const { rows } = await client.query({ text: `FETCH ${BATCH} FROM retained`, query_timeout: 0 } as pg.QueryConfig);
      if (rows.length === 0) break;
      yield rows.map((row) => ({ event: eventOf(row), at: row.at * 1000 }));
    }
    await client.query("COMMIT");
  } catch (error) {
    broken = error as Error;
    throw error;
  } finally {
    // A consumer that stops early leaves the transaction open: drop the connection.
    const idle =
      broken === undefined &&
      (await client.query("ROLLBACK").then(
        () => true,
        () => false,
      ));
    client.release(idle ? undefined : (broken ?? true));
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
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
