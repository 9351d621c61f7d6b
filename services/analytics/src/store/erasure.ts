import { setTimeout as sleep } from "node:timers/promises";
import { personHash } from "@quartet/contracts";
import type { TaskWatch } from "@quartet/service";
import { type ClickHouse, StoreUnavailable } from "./client.ts";
import { ANONYMOUS } from "./facts.ts";

/**
 * Rows that name an erased person. It holds no id itself: the mutation's text, which the engine keeps on disk and in its logs, says nothing
 * about anybody, and one run covers everyone who was recorded before it began.
 */
const NAMES_ERASED = `user_id != toUUID('${ANONYMOUS}') AND SHA256(toString(user_id)) IN (SELECT user_hash FROM erased)`;

/** The facts, and those of a rebuild under way. Never a name of a caller's. */
const TABLES =
  "SELECT name FROM system.tables WHERE database = currentDatabase() AND name IN ('facts', 'facts_next') ORDER BY name";

const record = "INSERT INTO erased (user_hash) SELECT arrayJoin(arrayMap(h -> unhex(h), {hashes:Array(String)}))";
const CHUNK = 500;
/** How long a caller waits for a mutation, which rewrites every part that names the person. */
const MUTATION_MS = 60_000;
/** The sweep's pause while the store is down. */
const RETRY_MS = 1_000;

function chunks(userIds: Iterable<string>): string[][] {
  const hashes = [...new Set(userIds)].map(personHash);
  return Array.from({ length: Math.ceil(hashes.length / CHUNK) }, (_, i) => hashes.slice(i * CHUNK, (i + 1) * CHUNK));
}

/** Remembers for ever, and durably, that these people are erased. Comes before any anonymising. Throws StoreUnavailable. */
export async function recordErased(clickhouse: ClickHouse, userIds: Iterable<string>): Promise<void> {
  for (const hashes of chunks(userIds)) await clickhouse.execute(record, { hashes }, { personal: true });
}

/** The same on behalf of a request: 503 instead of StoreUnavailable. */
export async function recordErasedNow(clickhouse: ClickHouse, userId: string): Promise<void> {
  await clickhouse.command(record, { hashes: [personHash(userId)] }, { personal: true });
}

/** Which of these people are erased. Throws StoreUnavailable. */
export async function erasedAmong(clickhouse: ClickHouse, userIds: Iterable<string>): Promise<Set<string>> {
  const all = [...new Set(userIds)];
  const erased = new Set<string>();
  for (const hashes of chunks(all)) {
    const rows = await clickhouse.read<{ h: string }>(
      `SELECT DISTINCT lower(hex(user_hash)) AS h FROM erased
       WHERE user_hash IN (SELECT arrayJoin(arrayMap(h -> toFixedString(unhex(h), 32), {hashes:Array(String)})))`,
      { hashes },
      { personal: true, settings: { max_threads: 1 } },
    );
    for (const row of rows) erased.add(row.h);
  }
  return new Set(all.filter((id) => erased.size > 0 && erased.has(personHash(id))));
}

/** Whether any row, merged or not, of any table of facts still names this person. */
export async function namesPerson(clickhouse: ClickHouse, userId: string): Promise<boolean> {
  const tables = await clickhouse.query<{ name: string }>(TABLES);
  for (const { name } of tables) {
    const rows = await clickhouse.query<{ one: number }>(
      `SELECT 1 AS one FROM ${name} WHERE user_id = {user:UUID} LIMIT 1`,
      { user: userId },
      { personal: true },
    );
    if (rows.length > 0) return true;
  }
  return false;
}

export interface Anonymiser {
  /**
   * Makes sure that no row names anyone who is recorded as erased by now. Calls that come while a run is under way share the next one.
   * Rejects with StoreUnavailable; `sweep` finds what is left.
   */
  run(): Promise<void>;
  /** Runs at once and then every `everyMs`, until aborted: what a crash left behind between an insert and its check. */
  sweep(signal: AbortSignal, everyMs: number, watch: TaskWatch): Promise<void>;
}

export function createAnonymiser(clickhouse: ClickHouse): Anonymiser {
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;

  const leftOvers = async (table: string): Promise<boolean> => {
    const rows = await clickhouse.read(
      `SELECT 1 FROM ${table} WHERE ${NAMES_ERASED} LIMIT 1`,
      {},
      { timeoutMs: MUTATION_MS },
    );
    return rows.length > 0;
  };
  const unfinished = async (table: string): Promise<number> => {
    const [row] = await clickhouse.read<{ n: number }>(
      "SELECT count() AS n FROM system.mutations WHERE database = currentDatabase() AND table = {table:String} AND NOT is_done",
      { table },
    );
    return row?.n ?? 0;
  };
  const inTable = async (table: string): Promise<void> => {
    const giveUpAt = performance.now() + MUTATION_MS;
    for (let pause = 100; await leftOvers(table); pause = Math.min(pause * 2, 2_000)) {
      // One that outlasted its caller goes on in the engine; behind it, not beside it, comes at most one more.
      if ((await unfinished(table)) > 1) {
        if (performance.now() > giveUpAt) throw new StoreUnavailable(`earlier mutations of ${table} do not end`);
        await sleep(pause);
        continue;
      }
      await clickhouse.execute(
        `ALTER TABLE ${table} UPDATE user_id = toUUID('${ANONYMOUS}'), properties = map() WHERE ${NAMES_ERASED}`,
        {},
        { timeoutMs: MUTATION_MS, settings: { mutations_sync: "1" } },
      );
      if (await leftOvers(table)) await sleep(pause);
      else return;
    }
  };
  const once = async (): Promise<void> => {
    // Names may be exchanged meanwhile: whatever is called `facts` in the end has been looked at.
    const tables = await clickhouse.read<{ name: string }>(TABLES);
    for (const { name } of tables) await inTable(name);
    if (tables.length !== 1) await inTable("facts");
  };
  const start = (): Promise<void> => {
    running = once().finally(() => {
      running = undefined;
    });
    return running;
  };
  const run = (): Promise<void> => {
    if (!running) return start();
    next ??= running
      .catch(() => {})
      .then(() => {
        next = undefined;
        return start();
      });
    return next;
  };

  return {
    run,
    async sweep(signal, everyMs, watch) {
      while (!signal.aborted) {
        const done = await run().then(
          () => {
            watch.ok();
            return true;
          },
          (error) => {
            watch.failed(error);
            return false;
          },
        );
        await sleep(done ? everyMs : RETRY_MS, undefined, { signal }).catch(() => {});
      }
    },
  };
}
