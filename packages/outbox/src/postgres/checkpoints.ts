import type pg from "pg";
import { type Checkpoint, type History, thin } from "../verify.ts";

/** Where a checkpoint stands in the outbox: every row of a transaction older than `horizon` was acknowledged. */
export interface TablePosition {
  systemId: string;
  horizon: string;
  lsn: string;
}

export type TableCheckpoint = Checkpoint<TablePosition>;

/**
 * The moment that a later checkpoint will speak of. Transactions older than the horizon have ended, so their commits lie before the
 * WAL's insert position: once that is confirmed, all their rows are acknowledged. (The *insert* position: a commit is visible before it is
 * flushed where `synchronous_commit` is off.)
 */
export async function readHorizon(db: pg.Pool): Promise<{ horizon: string; lsn: string }> {
  const sql =
    "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS horizon, pg_current_wal_insert_lsn()::text AS lsn";
  return (await db.query(sql)).rows[0];
}

const HISTORY = `
SELECT at, system_id, incarnation, sequence::float8, event_id, digest, horizon::text, lsn::text, refuted
FROM outbox_checkpoint WHERE slot = $1 AND stream = $2 ORDER BY at DESC`;

interface HistoryRow {
  at: Date;
  system_id: string;
  incarnation: string;
  sequence: number;
  event_id: string | null;
  digest: string | null;
  horizon: string;
  lsn: string;
  refuted: boolean;
}

/**
 * The checkpoints of a stream that may still hold. Those of another database cluster (this one
 * was filled from a dump) cannot hold: its transaction numbers mean nothing here.
 */
export async function readCheckpoints(
  db: pg.Pool,
  slot: string,
  stream: string,
  systemId: string,
): Promise<History<TablePosition>> {
  const { rows } = await db.query<HistoryRow>(HISTORY, [slot, stream]);
  const checkpoints = rows
    .filter((row) => !row.refuted && row.system_id === systemId)
    .map((row) => ({
      at: row.at,
      incarnation: row.incarnation,
      sequence: row.sequence,
      eventId: row.event_id,
      digest: row.digest,
      position: { systemId: row.system_id, horizon: row.horizon, lsn: row.lsn },
    }));
  return { checkpoints, known: rows.length > 0, unfinished: rows[0]?.refuted ?? false };
}

/**
 * Marks the checkpoints of a stream that are newer than `holding` (all, if none holds) as false. Before anything is sent again: a relay that dies
 * half-way must not find the stream long enough for a newer one to look true.
 */
export async function refuteCheckpoints(
  db: pg.Pool,
  slot: string,
  stream: string,
  holding: TableCheckpoint | undefined,
): Promise<void> {
  const sql = `UPDATE outbox_checkpoint SET refuted = true WHERE slot = $1 AND stream = $2 AND NOT refuted
    AND ($3::timestamptz IS NULL OR date_trunc('milliseconds', at) > $3)`;
  await db.query(sql, [slot, stream, holding?.at ?? null]);
}

const WRITE = `
INSERT INTO outbox_checkpoint (slot, stream, at, system_id, incarnation, sequence, event_id, digest, horizon, lsn)
SELECT $1, c.stream, date_trunc('milliseconds', clock_timestamp()), $2, c.incarnation, c.sequence, c.event_id, c.digest, $3::xid8, $4::pg_lsn
FROM unnest($5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[]) AS c (stream, incarnation, sequence, event_id, digest)
ON CONFLICT DO NOTHING`;

export interface StreamPosition {
  stream: string;
  incarnation: string;
  sequence: number;
  eventId: string | null;
  digest: string | null;
}

/** Writes one checkpoint for each stream; all speak of the same moment. */
export async function writeCheckpoints(
  db: pg.Pool,
  slot: string,
  position: TablePosition,
  streams: StreamPosition[],
): Promise<void> {
  const column = <T>(read: (stream: StreamPosition) => T): T[] => streams.map(read);
  await db.query(WRITE, [
    slot,
    position.systemId,
    position.horizon,
    position.lsn,
    column((s) => s.stream),
    column((s) => s.incarnation),
    column((s) => s.sequence),
    column((s) => s.eventId),
    column((s) => s.digest),
  ]);
}

/** Thins the history, and forgets what is older than `keepDays`; the newest of each stream always stays. */
export async function thinCheckpoints(db: pg.Pool, slot: string, keepDays: number): Promise<void> {
  const sql = "SELECT stream, at FROM outbox_checkpoint WHERE slot = $1 ORDER BY stream, at DESC";
  const { rows } = await db.query<{ stream: string; at: Date }>(sql, [slot]);
  const now = new Date();
  const oldest = now.getTime() - keepDays * 86_400_000;
  const drop: { stream: string; at: Date }[] = [];
  for (const history of Map.groupBy(rows, (row) => row.stream).values()) {
    const kept = new Set(thin(history, now).filter((row, i) => i === 0 || row.at.getTime() >= oldest));
    drop.push(...history.filter((row) => !kept.has(row)));
  }
  if (drop.length === 0) return;
  await db.query(
    `DELETE FROM outbox_checkpoint WHERE slot = $1 AND (stream, at) IN (SELECT * FROM unnest($2::text[], $3::timestamptz[]))`,
    [slot, drop.map((row) => row.stream), drop.map((row) => row.at.toISOString())],
  );
}
