import { setTimeout as sleep } from "node:timers/promises";
import { type Logger, watchTask } from "@quartet/service";
import type { Database } from "../store/database.ts";
import { hasErasuresToRepeat, noticeRestore } from "../store/repair.ts";

const LOOK_MS = 1_000;
const CLOSED_LOOK_MS = 100;

export interface RestoreGate {
  /** Whoever was erased is gone from this database too: it may be shown, and relayed. False until that has been seen. */
  readonly open: boolean;
  /** Looks now. Throws if the database does not answer, or the gate is closed. */
  pass(): Promise<void>;
  /** Looks again and again, until aborted. Begins the epoch of a database that was restored or promoted. */
  watch(signal: AbortSignal): Promise<void>;
  /** Does `work` while the gate is open: it is aborted when the gate closes, and begins again when it opens. */
  whileOpen(work: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void>;
}

/**
 * A database that was restored from a dump, or promoted without its last commits, holds people who were erased since. Nothing of it is shown or relayed
 * until they are erased again. The database is also looked at while it works: a promotion needs no restart of ours.
 */
export function createRestoreGate(db: Database, { note, logger }: { note: boolean; logger: Logger }): RestoreGate {
  let open = false;
  let told = false;
  const turns = new Set<() => void>();
  const turn = (now: boolean): void => {
    if (now === open) return;
    open = now;
    for (const each of [...turns]) each();
  };
  const look = async (): Promise<void> => {
    const epoch = await noticeRestore(db, note);
    if (epoch !== undefined) logger.warn({ epoch }, "this database was restored or promoted: a new epoch begins");
    const learning = await hasErasuresToRepeat(db);
    if (learning && !told)
      logger.warn(
        "this database was restored: nothing of it is shown or relayed before it is known who was erased since",
      );
    if (told && !learning) logger.info("whoever was erased since the restore is erased again");
    told = learning;
    turn(!learning);
  };
  return {
    get open() {
      return open;
    },
    async pass() {
      await look();
      if (!open) throw new Error("a restored database has yet to learn who was erased since");
    },
    async watch(signal) {
      const watch = watchTask("restore-watch", { logger });
      while (!signal.aborted) {
        await look().then(watch.ok, watch.failed);
        await sleep(open ? LOOK_MS : CLOSED_LOOK_MS, undefined, { signal }).catch(() => {});
      }
    },
    async whileOpen(work, signal) {
      while (!signal.aborted) {
        const turned = new AbortController();
        const note = () => turned.abort();
        turns.add(note);
        const until = AbortSignal.any([signal, turned.signal]);
        try {
          if (open) await work(until);
          else await new Promise<void>((done) => until.addEventListener("abort", () => done(), { once: true }));
        } finally {
          turns.delete(note);
        }
      }
    },
  };
}
