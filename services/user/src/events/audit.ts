import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { countAudit, type Logger, type Metrics, type Peer, watchTask } from "@quartet/service";
import {
  AUDITED_STORES,
  type AuditedStore,
  type AuditedUser,
  digestBuckets,
  isReemitting,
  openAuditRequest,
  readClock,
  saveAudit,
  usersOfBucket,
} from "../store/audit.ts";
import type { Database } from "../store/database.ts";
import { type RepairRequest, repairUsers } from "../store/repair.ts";
import { holdLease, releaseLease } from "../store/status.ts";
import type { AppendEvents } from "./ports.ts";

export interface AuditOptions {
  db: Database;
  append: AppendEvents;
  peers: Record<AuditedStore, Peer>;
  intervalMs: number;
  logger: Logger;
  metrics: Metrics;
}

/** A read model that answers and could still not be compared as a whole. */
class AuditUnfinished extends Error {
  override name = "AuditUnfinished";
}

interface Drift extends RepairRequest {
  kind: "missing" | "altered" | "invented";
}

interface Digests {
  asOf: string | null;
  buckets: { count: number; digest: string }[];
}

/** Held on to while a round goes on: after a crash another replica takes over when it has run out. */
const LEASE_SECONDS = 15;
/** A read model that could not be compared is tried again after this, then after twice as long, and so on. */
const AGAIN_MS = 2_000;
const AGAIN_AT_MOST_MS = 60_000;
const CONFIRM_MS = 10_000;
/** Half a million copies in Redis took 24 s to walk on two busy cores. */
const WALK_MS = 60_000;
/** Whoever is away is known to be by then; what takes longer ends with the peer's own deadline. */
const AWAY_MS = 20_000;
/** Users that one round mends; what is more is left to the next, which comes soon. */
const MOST_PER_ROUND = 50_000;
/** How often it is looked whether somebody asks for an audit. */
const LOOK_MS = 500;
/**
 * A store may remember the version of a document that was deleted by hand, which counted as one more; what is emitted for it must be above that.
 */
const ABOVE_A_DELETION = 8;

/**
 * Compares, bucket by bucket, what each read model holds with the users, for ever. A difference is drift only if it is still there once the read model
 * is true as of after it was first seen; then it is mended by emitting what is true now above the version the read model holds.
 */
export async function runAudit(options: AuditOptions, signal: AbortSignal): Promise<void> {
  const { db, logger, intervalMs } = options;
  const watch = watchTask("audit", { logger });
  for (const store of AUDITED_STORES) options.metrics.gauge("quartet_audit_unfinished").set({ store }, 0);
  const holder = randomUUID();
  let last = 0;
  let again = { at: Number.POSITIVE_INFINITY, afterMs: AGAIN_MS };
  let tried: Date | undefined;
  while (!signal.aborted) {
    try {
      const hold = () => holdLease(db, "audit", holder, LEASE_SECONDS);
      if (await hold()) {
        const asked = await openAuditRequest(db);
        const wanted = asked !== undefined && asked.getTime() !== tried?.getTime();
        const due = intervalMs > 0 && (last === 0 || performance.now() - last >= intervalMs);
        if ((due || wanted || performance.now() >= again.at) && !(await isReemitting(db))) {
          tried = asked;
          const began = performance.now();
          const renewal = setInterval(() => void hold().catch(() => {}), (LEASE_SECONDS * 1000) / 3);
          const whole = await auditAll(options, signal)
            .catch((error: unknown) => error)
            .finally(() => clearInterval(renewal));
          if (whole === true) watch.ok();
          else watch.failed(whole);
          // From beginning to beginning, so that a long round makes nobody wait longer; with a rest, so that it is not all that is done.
          last = Math.max(began, performance.now() - intervalMs / 2);
          const afterMs = wanted ? AGAIN_MS : again.afterMs;
          again =
            whole === true
              ? { at: Number.POSITIVE_INFINITY, afterMs: AGAIN_MS }
              : { at: performance.now() + afterMs, afterMs: Math.min(2 * afterMs, AGAIN_AT_MOST_MS) };
        }
      }
    } catch (error) {
      watch.failed(error);
    }
    await sleep(Math.min(LOOK_MS, intervalMs || LOOK_MS), undefined, { signal }).catch(() => {});
  }
  await releaseLease(db, "audit", holder).catch(() => {});
}

/** One round. Returns true if every read model could be compared, else why the last one of the others could not. */
async function auditAll(options: AuditOptions, signal: AbortSignal): Promise<unknown> {
  const { db, logger, metrics } = options;
  const unfinished = metrics.gauge("quartet_audit_unfinished");
  let whole: unknown = true;
  const startedAt = await readClock(db);
  const expected = await digestBuckets(db, signal);
  for (const store of AUDITED_STORES) {
    const drifted = await findDrift(options, store, expected[store], signal).catch((error: unknown) => {
      logger.debug({ err: error, store }, "the audit of a read model has to wait");
      whole = error;
      // A read model that is away is told elsewhere.
      if (error instanceof AuditUnfinished) unfinished.set({ store }, 1);
      return undefined;
    });
    if (!drifted) continue;
    if (drifted.length > 0) {
      const users = drifted.slice(0, 20).map((d) => d.id);
      logger.warn({ store, users, drift: drifted.length }, "drift: emitting again");
      for (let i = 0; i < drifted.length; i += 100) await repairUsers(db, options.append, drifted.slice(i, i + 100));
    }
    const users = drifted.map(({ id, kind }) => ({ id, kind }));
    const compared = expected[store].reduce((sum, bucket) => sum + bucket.count, 0);
    await saveAudit(db, store, { compared, drift: users.length, mended: users.length, users, startedAt });
    countAudit(metrics, store, { drift: users.length, mended: users.length });
    const more = users.length >= MOST_PER_ROUND;
    unfinished.set({ store }, more ? 1 : 0);
    if (more) whole = new AuditUnfinished(`${store} has more drift than one round mends`);
  }
  return whole;
}

async function get<T>(peer: Peer, path: string, timeoutMs = 30_000): Promise<T> {
  const answer = await peer.request("GET", path, { timeoutMs });
  if (answer.status !== 200) throw new Error(`${peer.name} answered ${answer.status}`);
  return answer.body as T;
}

/** The digests of everything that a read model holds now. Rejects with AuditUnfinished when reading it takes too long. */
async function walk(peer: Peer): Promise<Digests> {
  const began = performance.now();
  return get<Digests>(peer, "/internal/digests?fresh=true", WALK_MS).catch((error: unknown) => {
    const took = performance.now() - began;
    if (took < AWAY_MS) throw error;
    throw new AuditUnfinished(`${peer.name} could not be read within ${Math.round(took / 1000)} s`, { cause: error });
  });
}

/** Users that the read model holds wrongly and has had the time to get right. */
async function findDrift(
  { db, peers }: AuditOptions,
  store: AuditedStore,
  expected: { count: number; digest: string }[],
  signal: AbortSignal,
): Promise<Drift[]> {
  const { buckets } = await walk(peers[store]);
  const suspects = expected.flatMap((e, i) => (e.digest === buckets[i]?.digest ? [] : [i]));
  if (suspects.length === 0) return [];
  const first = new Map<number, Map<string, Drift>>();
  let found = 0;
  for (const bucket of suspects) {
    const wrong = await differences(db, peers[store], store, bucket);
    first.set(bucket, wrong);
    found += wrong.size;
    if (found >= MOST_PER_ROUND) break;
  }
  if ([...first.values()].every((found) => found.size === 0)) return [];
  await waitUntilTrue(peers[store], await readClock(db), signal);
  const drifted: Drift[] = [];
  for (const [bucket, before] of first) {
    if (before.size === 0) continue;
    const now = await differences(db, peers[store], store, bucket);
    // The same user, held at the same version, both times: no event is on its way that would put it right.
    for (const [id, found] of now) if (before.get(id)?.above === found.above) drifted.push(found);
  }
  return drifted;
}

async function differences(db: Database, peer: Peer, store: AuditedStore, bucket: number): Promise<Map<string, Drift>> {
  const { users } = await get<{ users: AuditedUser[] }>(peer, `/internal/digests/${bucket}`);
  const held = new Map(users.map((u) => [u.id, u]));
  const wrong = new Map<string, Drift>();
  for (const truth of await usersOfBucket(db, store, bucket)) {
    const copy = held.get(truth.id);
    held.delete(truth.id);
    if (!copy) wrong.set(truth.id, { id: truth.id, above: truth.version + ABOVE_A_DELETION, kind: "missing" });
    else if (copy.digest !== truth.digest || copy.version !== truth.version)
      wrong.set(truth.id, { id: truth.id, above: Math.max(copy.version, 0), kind: "altered" });
  }
  for (const { id, version } of held.values()) wrong.set(id, { id, above: Math.max(version, 0), kind: "invented" });
  return wrong;
}

/** Waits until the read model says that it is true as of `moment`. */
async function waitUntilTrue(peer: Peer, moment: Date, signal: AbortSignal): Promise<void> {
  for (const deadline = performance.now() + CONFIRM_MS; ; await sleep(500, undefined, { signal })) {
    const { asOf } = await get<Digests>(peer, "/internal/digests");
    if (asOf && Date.parse(asOf) > moment.getTime()) return;
    if (performance.now() > deadline) throw new Error(`${peer.name} is not true as of ${moment.toISOString()} yet`);
  }
}
