import { type ErasureBody, makeVersion } from "@quartet/contracts";
import { type BackupSettings, backupsGoneBy } from "@quartet/service";
import type { Database } from "./database.ts";

/** The stores that confirm an erasure, in the order they are asked. */
export const PARTICIPANTS = ["session", "search", "analytics"] as const;
export type Participant = (typeof PARTICIPANTS)[number];

/** For how long after its completion an erasure is swept again: messages that were in flight arrive by then. */
const SWEEP_MINUTES = 10;
/** An erasure that takes longer is overdue and shows in the metrics. */
const OVERDUE_MINUTES = 15;

export interface ErasureRow {
  id: string;
  user_id: string;
  requested_at: Date;
  session_at: Date | null;
  search_at: Date | null;
  analytics_at: Date | null;
  completed_at: Date | null;
  gone_by: Date | null;
  attempts: number;
  counter: number;
  epoch: number;
}

export function erasureVersion(row: ErasureRow): number {
  return makeVersion(row.epoch, row.counter);
}

/**
 * The receipts of an erasure, by its unguessable id; undefined if there is none. One that this database has forgotten, because it was restored from before it, is
 * found among what was learnt of others; if the person was erased again since, that erasure's receipts are shown.
 */
export async function findErasure(db: Database, id: string, backups: BackupSettings): Promise<ErasureBody | undefined> {
  const row = await db.run(async (client) => {
    const text = `SELECT $1 AS id, requested_at, session_at, search_at, analytics_at, completed_at, gone_by FROM erasures WHERE id = $1
      UNION ALL (SELECT $1, p.requested_at, r.session_at, r.search_at, r.analytics_at, r.completed_at, r.gone_by
        FROM erased_people p, LATERAL (
          SELECT session_at, search_at, analytics_at, completed_at, greatest(e.gone_by, p.gone_by) AS gone_by
            FROM erasures e WHERE person_hash(e.user_id) = p.user_hash
          UNION ALL SELECT p.session_at, p.search_at, p.analytics_at, p.completed_at, p.gone_by LIMIT 1) r
        WHERE p.erasure_id = $1) LIMIT 1`;
    return (await client.query<ErasureRow>(text, [id])).rows[0];
  });
  if (!row) return undefined;
  const goneBy = row.completed_at && (row.gone_by ?? backupsGoneBy(backups, row.completed_at));
  const receipt = (at: Date | null) =>
    at ? { state: "complete" as const, confirmedAt: at.toISOString() } : { state: "pending" as const };
  return {
    id: row.id,
    state: row.completed_at ? "complete" : "pending",
    requestedAt: row.requested_at.toISOString(),
    ...(row.completed_at ? { completedAt: row.completed_at.toISOString() } : {}),
    stores: {
      user: receipt(row.completed_at),
      session: receipt(row.session_at),
      analytics: receipt(row.analytics_at),
      search: receipt(row.search_at),
    },
    backups: { goneBy: goneBy?.toISOString() ?? null },
  };
}

/**
 * Takes up to `limit` erasures that are due, those that are open before those that are to be swept once more, for `leaseSeconds`: no other replica takes
 * them meanwhile, and another one does if this one dies.
 */
export function takeDueErasures(db: Database, limit: number, leaseSeconds: number): Promise<ErasureRow[]> {
  return db.run(async (client) => {
    const { rows } = await client.query<ErasureRow>(
      `WITH due AS MATERIALIZED (
         SELECT id AS due_id FROM erasures WHERE swept_at IS NULL AND next_attempt_at <= now()
          ORDER BY completed_at IS NOT NULL, next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED)
       UPDATE erasures e SET next_attempt_at = now() + make_interval(secs => $2), attempts = attempts + 1
         FROM due, tombstones t WHERE e.id = due_id AND t.user_id = e.user_id
       RETURNING e.id, e.user_id, e.requested_at, e.session_at, e.search_at, e.analytics_at, e.completed_at, e.attempts,
                 t.counter, (SELECT epoch FROM restore_epoch) AS epoch`,
      [limit, leaseSeconds],
    );
    return rows;
  });
}

/**
 * Writes down that a store confirmed. The first receipt stays.
 * @param goneBy by when the last backup of it that holds the person is deleted
 */
export async function confirmErasure(
  db: Database,
  id: string,
  participant: Participant,
  goneBy: Date | null,
): Promise<void> {
  const column = `${participant}_at`;
  const text = `UPDATE erasures SET ${column} = coalesce(${column}, now()), gone_by = greatest(gone_by, $2) WHERE id = $1`;
  await db.run((client) => client.query(text, [id, goneBy]));
}

/** Gives an erasure back, to be taken again in `seconds`. */
export async function postponeErasure(db: Database, id: string, seconds: number): Promise<void> {
  const text = "UPDATE erasures SET next_attempt_at = now() + make_interval(secs => $2) WHERE id = $1";
  await db.run((client) => client.query(text, [id, seconds]));
}

/**
 * The last receipt. What follows are sweeps. Not before Analytics knows of it: a receipt that says complete outlives this database.
 * @param goneBy by when the last backup of this store that holds the person is deleted
 * @returns whether it is complete
 */
export async function completeErasure(
  db: Database,
  id: string,
  nextSweepSeconds: number,
  goneBy: Date | null,
): Promise<boolean> {
  const text = `UPDATE erasures SET completed_at = coalesce(completed_at, now()), attempts = 0, next_attempt_at = now() + make_interval(secs => $2),
      gone_by = greatest(gone_by, $3)
    WHERE id = $1 AND session_at IS NOT NULL AND search_at IS NOT NULL AND analytics_at IS NOT NULL AND told > 0`;
  return db.run(async (client) => (await client.query(text, [id, nextSweepSeconds, goneBy])).rowCount === 1);
}

/** Notes a sweep of a complete erasure: the next one is due in `seconds`, or none if its time is over. */
export async function noteSweep(db: Database, id: string, seconds: number): Promise<void> {
  await db.run((client) =>
    client.query(
      `UPDATE erasures SET next_attempt_at = now() + make_interval(secs => $2),
         swept_at = CASE WHEN completed_at < now() - make_interval(mins => ${SWEEP_MINUTES}) THEN now() END
        WHERE id = $1`,
      [id, seconds],
    ),
  );
}

/** How many erasures are open, and how many of them for too long. */
export function countErasures(db: Database): Promise<{ open: number; overdue: number }> {
  return db.run(async (client) => {
    const { rows } = await client.query<{ open: number; overdue: number }>(
      `SELECT count(*) AS open, count(*) FILTER (WHERE requested_at < now() - make_interval(mins => ${OVERDUE_MINUTES})) AS overdue
         FROM erasures WHERE completed_at IS NULL AND swept_at IS NULL`,
    );
    return rows[0]!;
  });
}

/**
 * Deletes what the outbox still keeps of an erased person, but for the tombstone and the fact of the erasure, which name nothing but the id: a stream
 * that has to be sent again must end with them. Call it once the relay has passed the erasure.
 */
export async function deleteRetainedRows(db: Database, userId: string): Promise<number> {
  return db.run(async (client) => {
    const text = `DELETE FROM outbox WHERE key = $1 AND subject <> 'facts.user.erased.' || $1
      AND payload::json ->> 'type' <> 'quartet.user.tombstone.v1'`;
    return (await client.query(text, [userId])).rowCount ?? 0;
  });
}
