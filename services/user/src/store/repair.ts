import { emit, makeVersion, type Outgoing, splitVersion } from "@quartet/contracts";
import type { Database, Queryable } from "./database.ts";
import { resumeErasure } from "./registry.ts";
import { type AppendEvents, stateEvent, USER_COLUMNS, type UserRow } from "./rows.ts";
import { eraseIn } from "./users.ts";

/** A user whose state some read model holds wrongly, and the version it holds (0: nothing). */
export interface RepairRequest {
  id: string;
  above: number;
}

/**
 * Emits what is true of each user now, above the version given: the current row, or the tombstone, under the row's lock; so a repair that races an
 * erasure cannot bring anyone back. An id that never existed gets a tombstone. Returns the versions emitted.
 */
export async function repairUsers(
  db: Database,
  append: AppendEvents,
  requests: RepairRequest[],
): Promise<{ id: string; version: number; state: "user" | "tombstone" }[]> {
  const sorted = [...new Map(requests.map((r) => [r.id, r])).values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const done = [];
  for (const request of sorted) done.push(await db.transaction((tx) => repairOne(tx, append, request)));
  return done;
}

async function repairOne(tx: Queryable, append: AppendEvents, { id, above }: RepairRequest) {
  const epoch = await epochAtLeast(tx, splitVersion(above).epoch);
  const floor = splitVersion(above).epoch === epoch ? splitVersion(above).counter : 0;
  const text = `UPDATE users SET counter = greatest(counter, $2) + 1 WHERE id = $1 RETURNING ${USER_COLUMNS}`;
  const row = (await tx.query<UserRow>(text, [id, floor])).rows[0];
  if (row) {
    await append(tx, [stateEvent(row)]);
    return { id, version: makeVersion(epoch, row.counter), state: "user" as const };
  }
  const tombstone = await tx.query<{ counter: number; at: Date }>(
    `INSERT INTO tombstones AS t (user_id, counter, at) VALUES ($1, $2 + 1, now())
     ON CONFLICT (user_id) DO UPDATE SET counter = greatest(t.counter, $2) + 1 RETURNING counter, at`,
    [id, floor],
  );
  await resumeErasure(tx, id);
  const { counter, at } = tombstone.rows[0]!;
  const version = makeVersion(epoch, counter);
  await append(tx, [emit.userTombstone(id, version, { time: at })]);
  return { id, version, state: "tombstone" as const };
}

/** The restore epoch, raised first if a read model has already seen a later one (this database was restored from before it). */
async function epochAtLeast(tx: Queryable, wanted: number): Promise<number> {
  const current = (await tx.query<{ epoch: number }>("SELECT epoch FROM restore_epoch")).rows[0]!.epoch;
  if (current >= wanted) return current;
  const text = "UPDATE restore_epoch SET epoch = greatest(epoch, $1) RETURNING epoch";
  return (await tx.query<{ epoch: number }>(text, [wanted])).rows[0]!.epoch;
}

/** Asks for everybody to be emitted again. One such request is open at a time; another one while it is starts it over. */
export async function requestReemission(db: Database, reason: string): Promise<void> {
  await db.run((client) => openReemission(client, reason, "users"));
}

/** `since`: see `RestoreJob`. Another restore while one is open begins it again, from the earlier of the two. */
async function openReemission(
  client: Queryable,
  reason: string,
  phase: "erasures" | "users",
  since: string = EVER,
): Promise<void> {
  await client.query(
    `INSERT INTO reemissions AS r (reason, phase, since) VALUES ($1, $2, $3)
     ON CONFLICT ((true)) WHERE phase <> 'done' DO UPDATE SET reason = excluded.reason, after = DEFAULT, requested_at = now(),
       phase = CASE r.phase WHEN 'erasures' THEN r.phase ELSE excluded.phase END,
       since = CASE WHEN excluded.phase <> 'erasures' THEN r.since WHEN r.phase = 'erasures' THEN least(r.since, excluded.since) ELSE excluded.since END,
       learned_at = CASE excluded.phase WHEN 'erasures' THEN NULL ELSE r.learned_at END`,
    [reason.slice(0, 500), phase, since],
  );
}

const EVER = "-infinity";

/**
 * After a backup was restored: raises the epoch, so that what is emitted now wins over whatever the log and the read models hold; then whoever was erased
 * since has to be learnt of, is erased again, and everybody is emitted. Returns the new epoch.
 */
export function beginEpoch(db: Database): Promise<number> {
  return db.transaction((tx) => beginEpochIn(tx, EVER));
}

async function beginEpochIn(tx: Queryable, since: string): Promise<number> {
  const text = "UPDATE restore_epoch SET epoch = epoch + 1 RETURNING epoch";
  const { epoch } = (await tx.query<{ epoch: number }>(text)).rows[0]!;
  await openReemission(tx, `restored: epoch ${epoch}`, "erasures", since);
  return epoch;
}

const WHERE_IT_IS = `SELECT cluster AS before, seen_at::text AS seen,
    (SELECT system_identifier FROM pg_control_system()) || ':' || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS now
  FROM restore_epoch`;

/**
 * Looks whether this database has come from another cluster (a dump) or onto another timeline (point-in-time recovery, promotion of a replica that
 * may lack the last commits) since it was last looked at, and begins an epoch if so. Returns it then. A volume snapshot leaves no such trace.
 * @param note writes down that it is where it was: whatever is erased later than that a copy of it may not know
 */
export async function noticeRestore(db: Database, note: boolean): Promise<number | undefined> {
  const look = async (client: Queryable, lock: string) =>
    (await client.query<{ before: string | null; seen: string; now: string }>(WHERE_IT_IS + lock)).rows[0]!;
  const { before, now } = await db.run((client) => look(client, ""));
  if (before === now) {
    const text = "UPDATE restore_epoch SET seen_at = now() WHERE cluster = $1 AND seen_at < now() - interval '5 s'";
    if (note) await db.run((client) => client.query(text, [now]));
    return undefined;
  }
  return db.transaction(async (tx) => {
    const at = await look(tx, " FOR UPDATE");
    if (at.before === at.now) return undefined;
    await tx.query("UPDATE restore_epoch SET cluster = $1", [at.now]);
    return at.before === null ? undefined : beginEpochIn(tx, at.seen);
  });
}

/** Whether a restored database has yet to learn whom it must erase again, or to do so. */
export async function hasErasuresToRepeat(db: Database): Promise<boolean> {
  const { rows } = await db.run((client) => client.query("SELECT FROM reemissions WHERE phase = 'erasures'"));
  return rows.length > 0;
}

/** A restore of which something has to be learnt still. */
export interface RestoreJob {
  id: number;
  /** Whoever was erased later than this the database may not know. Null: nobody can say how old it is. */
  since: Date | null;
  /** Nothing is relayed before it is known who was erased. After that, the registry may still have receipts. */
  urgent: boolean;
}

export async function restoreToLearn(db: Database): Promise<RestoreJob | undefined> {
  const { rows } = await db.run((client) =>
    client.query<{ id: number; since: Date | null; urgent: boolean }>(
      `SELECT id, CASE WHEN isfinite(since) THEN since END AS since, learned_at IS NULL AS urgent
         FROM reemissions WHERE phase = 'erasures' AND learned_at IS NULL OR receipts_owed ORDER BY learned_at IS NULL DESC, id LIMIT 1`,
    ),
  );
  return rows[0];
}

/** It is known now who was erased since. `again`: what came after the others names people whom they did not. */
export async function noteLearned(
  db: Database,
  { id }: RestoreJob,
  { receiptsOwed, again }: { receiptsOwed: boolean; again: boolean },
): Promise<void> {
  await db.transaction(async (tx) => {
    const text = "UPDATE reemissions SET learned_at = coalesce(learned_at, now()), receipts_owed = $2 WHERE id = $1";
    await tx.query(text, [id, receiptsOwed]);
    if (!again) return;
    await openReemission(tx, "erasures that the log did not have", "erasures");
    await tx.query("UPDATE reemissions SET learned_at = now() WHERE phase = 'erasures'");
  });
}

/**
 * Does the next piece of an open re-emission: up to `limit` rows, then tombstones, and its progress, in one transaction. Several replicas take turns on
 * the row's lock. Returns how many were emitted; undefined if nothing is open, or has to wait until it is known who was erased.
 */
export function reemitSome(db: Database, append: AppendEvents, limit = 500): Promise<number | undefined> {
  return db.transaction(
    async (tx) => {
      const open = await tx.query<{ id: number; phase: keyof typeof NEXT; after: string }>(
        `SELECT id, phase, after FROM reemissions WHERE phase <> 'done' AND (phase <> 'erasures' OR learned_at IS NOT NULL)
           FOR UPDATE SKIP LOCKED`,
      );
      const job = open.rows[0];
      if (!job) return undefined;
      const piece = { erasures: someErasures(append), users: someUsers, tombstones: someTombstones }[job.phase];
      const { events, last } = await piece(tx, job.after, limit);
      await append(tx, events);
      await (last
        ? tx.query("UPDATE reemissions SET after = $2, emitted = emitted + $3 WHERE id = $1", [
            job.id,
            last,
            events.length,
          ])
        : tx.query("UPDATE reemissions SET phase = $2, after = DEFAULT WHERE id = $1", [job.id, NEXT[job.phase]]));
      return events.length;
    },
    { timeoutMs: 5000 },
  );
}

const NEXT = { erasures: "users", users: "tombstones", tombstones: "done" } as const;

type Piece = { events: Outgoing[]; last: string | undefined };

/** Erases again who was learnt of; they say so themselves. Of what the outbox kept of them nothing is said once more. */
function someErasures(append: AppendEvents) {
  return async (tx: Queryable, after: string, limit: number): Promise<Piece> => {
    const { rows } = await tx.query<{ id: string; erased: boolean; receipt: string; requested: Date; gone_by: Date }>(
      `SELECT u.id, p.user_hash IS NOT NULL AS erased, p.erasure_id AS receipt, p.requested_at AS requested, p.gone_by
         FROM (SELECT id FROM users WHERE id > $1 ORDER BY id LIMIT $2) u LEFT JOIN erased_people p ON p.user_hash = person_hash(u.id)
        ORDER BY u.id`,
      [after, limit],
    );
    for (const row of rows.filter(({ erased }) => erased)) {
      const earlier = row.receipt ? { id: row.receipt, requestedAt: row.requested, goneBy: row.gone_by } : undefined;
      await tx.query("DELETE FROM outbox WHERE key = $1 AND stream = 'USERS'", [row.id]);
      await eraseIn(tx, append, row.id, { earlier });
    }
    return { events: [], last: rows.at(-1)?.id };
  };
}

async function someUsers(tx: Queryable, after: string, limit: number): Promise<Piece> {
  const { rows } = await tx.query<UserRow>(
    `WITH piece AS MATERIALIZED (SELECT id AS piece_id FROM users WHERE id > $1 ORDER BY id LIMIT $2 FOR UPDATE)
     UPDATE users SET counter = counter + 1 FROM piece WHERE id = piece_id RETURNING ${USER_COLUMNS}`,
    [after, limit],
  );
  rows.sort((a, b) => (a.id < b.id ? -1 : 1));
  return { events: rows.map((row) => stateEvent(row)), last: rows.at(-1)?.id };
}

async function someTombstones(tx: Queryable, after: string, limit: number): Promise<Piece> {
  const { rows } = await tx.query<{ user_id: string; counter: number; at: Date; epoch: number }>(
    `WITH piece AS MATERIALIZED (SELECT user_id AS piece_id FROM tombstones WHERE user_id > $1 ORDER BY user_id LIMIT $2 FOR UPDATE)
     UPDATE tombstones SET counter = counter + 1 FROM piece WHERE user_id = piece_id
     RETURNING user_id, counter, at, (SELECT epoch FROM restore_epoch) AS epoch`,
    [after, limit],
  );
  rows.sort((a, b) => (a.user_id < b.user_id ? -1 : 1));
  const events = rows.map((t) => emit.userTombstone(t.user_id, makeVersion(t.epoch, t.counter), { time: t.at }));
  return { events, last: rows.at(-1)?.user_id };
}
