import { emit, makeVersion, type Outgoing, splitVersion } from "@quartet/contracts";
import type { Database, Queryable } from "./database.ts";
import { type AppendEvents, stateEvent, USER_COLUMNS, type UserRow } from "./rows.ts";

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
  await db.run((client) =>
    client.query(
      `INSERT INTO reemissions (reason) VALUES ($1)
       ON CONFLICT ((true)) WHERE phase <> 'done' DO UPDATE SET reason = excluded.reason, phase = 'users', after = DEFAULT, requested_at = now()`,
      [reason.slice(0, 500)],
    ),
  );
}

/** After a backup was restored: raises the epoch, so that what is emitted now wins over whatever the log and the read models hold, and emits everybody. */
export async function beginEpoch(db: Database): Promise<number> {
  const epoch = await db.run(async (client) => {
    const text = "UPDATE restore_epoch SET epoch = epoch + 1 RETURNING epoch";
    return (await client.query<{ epoch: number }>(text)).rows[0]!.epoch;
  });
  await requestReemission(db, `restored: epoch ${epoch}`);
  return epoch;
}

/**
 * Does the next piece of an open re-emission: up to `limit` rows, then tombstones, and its progress, in one transaction. Several replicas take turns on
 * the row's lock. Returns how many were emitted; undefined if nothing is open.
 */
export function reemitSome(db: Database, append: AppendEvents, limit = 500): Promise<number | undefined> {
  return db.transaction(
    async (tx) => {
      const open = await tx.query<{ id: number; phase: "users" | "tombstones"; after: string }>(
        "SELECT id, phase, after FROM reemissions WHERE phase <> 'done' FOR UPDATE SKIP LOCKED",
      );
      const job = open.rows[0];
      if (!job) return undefined;
      const { events, last } = await (job.phase === "users" ? someUsers : someTombstones)(tx, job.after, limit);
      await append(tx, events);
      const next = job.phase === "users" ? "tombstones" : "done";
      await (last
        ? tx.query("UPDATE reemissions SET after = $2, emitted = emitted + $3 WHERE id = $1", [
            job.id,
            last,
            events.length,
          ])
        : tx.query("UPDATE reemissions SET phase = $2, after = DEFAULT WHERE id = $1", [job.id, next]));
      return events.length;
    },
    { timeoutMs: 5000 },
  );
}

type Piece = { events: Outgoing[]; last: string | undefined };

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
