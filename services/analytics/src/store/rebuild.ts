import { randomUUID } from "node:crypto";
import type { ClickHouse } from "./client.ts";
import { H1 } from "./ledger.ts";

/** The table that is being filled anew, beside `facts`. After the exchange it is the old one, for as long as it takes to drop it. */
export const NEXT = "facts_next";

const LOCK = "facts_exchange";

const LONG = { timeoutMs: 65_000 } as const;

/** What a table's comment says of the rebuild that made it. It moves with the table when names are exchanged. */
interface Mark {
  rebuild: string;
  startedAt: string;
  begun: boolean;
  finishedAt?: string;
}

export interface TableState {
  /** The rebuild under way. */
  next?: Mark;
  /** The rebuild that made the live table. */
  live?: Mark;
  /** A table that is left of an earlier rebuild. */
  leftOver: boolean;
}

function parseMark(comment: string | undefined): Mark | undefined {
  try {
    const mark = JSON.parse(comment ?? "") as Mark;
    return typeof mark.rebuild === "string" ? mark : undefined;
  } catch {
    return undefined;
  }
}

/** Where the rebuild stands, by the tables themselves. Throws StoreUnavailable. */
export async function tableState(clickhouse: ClickHouse): Promise<TableState> {
  const rows = await clickhouse.read<{ name: string; comment: string }>(
    `SELECT name, comment FROM system.tables WHERE database = currentDatabase() AND name IN ('facts', '${NEXT}')`,
  );
  const comment = (name: string) => rows.find((row) => row.name === name)?.comment;
  const live = parseMark(comment("facts"));
  const next = parseMark(comment(NEXT));
  const underWay = next !== undefined && !outlived(next, live);
  return {
    ...(underWay ? { next } : {}),
    ...(live ? { live } : {}),
    leftOver: comment(NEXT) !== undefined && !underWay,
  };
}

/** The exchanged old table has an older mark than the live one, or none. */
function outlived(next: Mark, live: Mark | undefined): boolean {
  return live !== undefined && live.startedAt >= next.startedAt;
}

/** Whether there is a table to be written beside `facts`. */
export async function isRebuilding(clickhouse: ClickHouse): Promise<boolean> {
  return (await tableState(clickhouse)).next !== undefined;
}

async function mark(clickhouse: ClickHouse, table: string, value: Mark): Promise<void> {
  // A comment is no place for a parameter; what stands here is ours, and has no quote in it.
  await clickhouse.execute(`ALTER TABLE ${table} MODIFY COMMENT '${JSON.stringify(value)}'`);
}

/** Begins a rebuild. Returns false if one is under way. Throws StoreUnavailable. */
export async function startRebuild(clickhouse: ClickHouse): Promise<boolean> {
  const state = await tableState(clickhouse);
  if (state.next) return false;
  if (state.leftOver) await clickhouse.execute(`DROP TABLE IF EXISTS ${NEXT} SYNC`, {}, LONG);
  const value: Mark = { rebuild: randomUUID(), startedAt: new Date().toISOString(), begun: false };
  // Made under another name: a table called `facts_next` always has its mark.
  const made = `facts_made_${value.rebuild.replaceAll("-", "")}`;
  await clickhouse.execute(`CREATE TABLE ${made} AS facts`);
  await mark(clickhouse, made, value);
  try {
    await clickhouse.execute(`RENAME TABLE ${made} TO ${NEXT}`);
    return true;
  } catch (error) {
    // Another request was quicker.
    await clickhouse.execute(`DROP TABLE IF EXISTS ${made} SYNC`, {}, LONG);
    if (await isRebuilding(clickhouse)) return false;
    throw error;
  }
}

/** Notes that the stream is being replayed into the new table. */
export async function noteBegun(clickhouse: ClickHouse, id: string): Promise<void> {
  const { next } = await tableState(clickhouse);
  if (next?.rebuild === id) await mark(clickhouse, NEXT, { ...next, begun: true });
}

/**
 * Copies what Analytics alone still has and puts the new table in the old one's stead. Its own are the rows that the ledger vouches for and FACTS no longer
 * has: older than its retention, purged with a person or to make room, or lost by the broker. Also where FACTS has a repetition of the same fact: of
 * several messages with one id the first counts, whether it is still there or not.
 */
export async function exchange(clickhouse: ClickHouse, id: string): Promise<void> {
  await dropOldLock(clickhouse);
  // Two exchanges would undo each other. Of two who make a table one fails; a lock whose holder was killed is taken away when it is too old.
  await clickhouse.execute(`CREATE TABLE ${LOCK} (x UInt8) ENGINE = Memory`);
  try {
    const { next } = await tableState(clickhouse);
    if (next?.rebuild !== id) return;
    // Ids are hashes: with the version in one number they are as rare, and a set of them takes no more memory.
    await clickhouse.execute(
      `INSERT INTO ${NEXT} SELECT * FROM facts FINAL
        WHERE bitXor(id, ver) NOT IN (SELECT bitXor(id, ver) FROM ${NEXT}) AND ${H1} IN (SELECT arrayJoin(h1) FROM ledger FINAL)`,
      {},
      { ...LONG, settings: { max_memory_usage: "0" } },
    );
    // Still under way until the exchange: whoever is killed in between does this again.
    await mark(clickhouse, NEXT, { ...next, finishedAt: new Date().toISOString() });
    await clickhouse.execute(`EXCHANGE TABLES facts AND ${NEXT}`);
  } finally {
    await clickhouse.execute(`DROP TABLE IF EXISTS ${LOCK} SYNC`).catch(() => {});
  }
}

/** A lock older than any exchange may take. */
async function dropOldLock(clickhouse: ClickHouse): Promise<void> {
  const old = await clickhouse.read(
    `SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = '${LOCK}' AND metadata_modification_time < now() - 140`,
  );
  if (old.length > 0) await clickhouse.execute(`DROP TABLE IF EXISTS ${LOCK} SYNC`);
}

/** Drops what an exchange, or a start that was killed, has left. */
export async function dropLeftOvers(clickhouse: ClickHouse): Promise<void> {
  const { leftOver } = await tableState(clickhouse);
  if (leftOver) await clickhouse.execute(`DROP TABLE IF EXISTS ${NEXT} SYNC`, {}, LONG);
  const made = await clickhouse.read<{ name: string }>(
    `SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE 'facts\\_made\\_%'
        AND metadata_modification_time < now() - 60`,
  );
  for (const { name } of made) await clickhouse.execute(`DROP TABLE IF EXISTS ${name} SYNC`, {}, LONG);
}
