import type pg from "pg";

/**
 * Streams that do not have all that the WAL has told of. What is missing is in the table: every row since the horizon of the stream's newest
 * checkpoint that holds. Written down before a position behind a missing row is confirmed, and deleted with the first checkpoint after the last one.
 */
export async function readOwed(db: pg.Pool, slot: string): Promise<Set<string>> {
  const { rows } = await db.query<{ stream: string }>("SELECT stream FROM outbox_owed WHERE slot = $1", [slot]);
  return new Set(rows.map((row) => row.stream));
}

export async function noteOwed(db: pg.Pool | pg.ClientBase, slot: string, streams: string[]): Promise<void> {
  const sql =
    "INSERT INTO outbox_owed (slot, stream) SELECT $1, stream FROM unnest($2::text[]) AS stream ON CONFLICT DO NOTHING";
  await db.query(sql, [slot, streams]);
}

export async function settleOwed(db: pg.Pool, slot: string, streams: string[]): Promise<void> {
  await db.query("DELETE FROM outbox_owed WHERE slot = $1 AND stream = ANY ($2)", [slot, streams]);
}
