import { setTimeout as sleep } from "node:timers/promises";
import type { Broker } from "@quartet/projection";
import { type BackupSettings, backupsGoneBy, type Logger, type Metrics, type Peer, watchTask } from "@quartet/service";
import type { Database } from "../store/database.ts";
import {
  completeErasure,
  confirmErasure,
  countErasures,
  deleteRetainedRows,
  type ErasureRow,
  erasureVersion,
  noteSweep,
  type Participant,
  postponeErasure,
  takeDueErasures,
} from "../store/erasures.ts";
import { completeUnknown } from "../store/registry.ts";
import { erasureIsRelayed, purgePerson } from "./streams.ts";

const AT_ONCE = 16;
const LEASE_SECONDS = 15;
const IDLE_MS = 100;
/** The first sweep; each further one comes after twice the time. */
const SWEEP_SECONDS = 15;
/** An erasure that was held up and is not heard of for so long went on in another replica. */
const FORGET_MS = 30_000;

export interface SagaOptions {
  db: Database;
  broker: Broker;
  peers: Record<Participant, Peer>;
  backups: BackupSettings;
  logger: Logger;
  metrics: Metrics;
}

/**
 * The erasure saga: asks every store until each has confirmed what it holds, then clears the log and the outbox, and only then says complete.
 * Every step is idempotent and its receipt is written down, so that it may die anywhere and go on in another replica.
 */
export async function runSaga(options: SagaOptions, signal: AbortSignal): Promise<void> {
  const { db, logger, metrics } = options;
  const open = metrics.gauge("quartet_erasures_open");
  const overdue = metrics.gauge("quartet_erasures_overdue");
  const watch = watchTask("erasures", { logger });
  /** Erasures that something holds up, by when that was last seen. Few: as many as are under way in half a minute. */
  const heldUp = new Map<string, { at: number; error: unknown }>();
  const step = async (row: ErasureRow): Promise<void> => {
    const error = await advance(options, row);
    if (error === undefined) heldUp.delete(row.id);
    else heldUp.set(row.id, { at: performance.now(), error });
  };
  let counted = 0;
  // Not in rounds: one that waits for a slow store must not hold the others back.
  const underWay = new Set<Promise<void>>();
  while (!signal.aborted) {
    try {
      const room = AT_ONCE - underWay.size;
      for (const row of room > 0 ? await takeDueErasures(db, room, LEASE_SECONDS) : []) {
        const one: Promise<void> = step(row).finally(() => underWay.delete(one));
        underWay.add(one);
      }
      if (performance.now() - counted > 5000) {
        counted = performance.now();
        await completeUnknown(db);
        const figures = await countErasures(db);
        open.set(figures.open);
        overdue.set(figures.overdue);
      }
      for (const [id, { at }] of heldUp) if (performance.now() - at > FORGET_MS) heldUp.delete(id);
      const [first] = heldUp.values();
      if (first) watch.failed(first.error);
      else watch.ok();
    } catch (error) {
      watch.failed(error);
    }
    const pause = sleep(IDLE_MS, undefined, { signal }).catch(() => {});
    await (underWay.size === AT_ONCE ? Promise.race([pause, ...underWay]) : pause);
  }
  await Promise.all(underWay);
}

/** The next step of an erasure. Returns what holds it up, if it is not just that a store has not come so far. */
async function advance(options: SagaOptions, row: ErasureRow): Promise<unknown> {
  const { db, broker, logger } = options;
  try {
    if (row.completed_at) {
      await clear(options, row);
      await noteSweep(db, row.id, SWEEP_SECONDS * 2 ** Math.min(row.attempts, 10));
      return undefined;
    }
    const confirmed: Record<Participant, boolean> = {
      session: row.session_at !== null,
      search: row.search_at !== null,
      analytics: row.analytics_at !== null,
    };
    const ask = async (participant: Participant): Promise<void> => {
      if (confirmed[participant]) return;
      const answer = await askForErasure(options, participant, row);
      confirmed[participant] = answer.state === "complete";
      const goneBy = answer.goneBy ? new Date(answer.goneBy) : null;
      if (confirmed[participant]) await confirmErasure(db, row.id, participant, goneBy);
    };
    // A participant that does not answer must not hold the others back.
    const asked = await Promise.allSettled([ask("session"), ask("search")]);
    // Session's last facts and our own have to be on the stream before Analytics can say that it has counted them all.
    if (confirmed.session && (await erasureIsRelayed(broker, row.user_id, row.session_at))) await ask("analytics");
    if (confirmed.session && confirmed.search && confirmed.analytics) {
      await clear(options, row);
      const goneBy = backupsGoneBy(options.backups, row.requested_at);
      if (await completeErasure(db, row.id, SWEEP_SECONDS, goneBy)) return undefined;
    }
    const failure = asked.find((a) => a.status === "rejected");
    if (failure) throw failure.reason;
    await postponeErasure(db, row.id, backoff(row.attempts));
    return undefined;
  } catch (error) {
    logger.debug({ err: error, erasure: row.id }, "an erasure waits");
    await postponeErasure(db, row.id, backoff(row.attempts)).catch(() => {});
    return error;
  }
}

/** 100 ms, then ever longer, at most 3 s. */
function backoff(attempts: number): number {
  return Math.min(0.1 * 1.5 ** Math.min(attempts, 20), 3);
}

interface ErasureAnswer {
  state: "pending" | "complete";
  /** By when the last backup of that store that holds the person is deleted. */
  goneBy?: string | null;
}

async function askForErasure(
  { peers }: SagaOptions,
  participant: Participant,
  row: ErasureRow,
): Promise<ErasureAnswer> {
  const answer = await peers[participant].request("POST", "/internal/erasures", {
    body: { userId: row.user_id, version: erasureVersion(row) },
    idempotent: true,
    timeoutMs: participant === "analytics" ? 5000 : 2000,
  });
  if (answer.status !== 200) throw new Error(`${participant} answered ${answer.status}`);
  return answer.body as ErasureAnswer;
}

/** Removes the outbox rows, ours and Session's, the facts and the dead letters that still name the person. Throws if any is left. */
async function clear({ db, broker, peers }: SagaOptions, row: ErasureRow): Promise<void> {
  const { status, body } = await peers.session.request("DELETE", `/internal/erasures/${row.user_id}/outbox`, {
    timeoutMs: 2000,
  });
  // A Session of an older release has no such call: it deleted them when it was first asked.
  if (status !== 404 && (status !== 200 || (body as { state: string }).state !== "complete"))
    throw new Error(`session answered ${status}: its outbox still names the person`);
  await deleteRetainedRows(db, row.user_id);
  const { left } = await purgePerson(broker, row.user_id);
  if (left > 0) throw new Error(`${left} messages that name the person came in meanwhile`);
}
