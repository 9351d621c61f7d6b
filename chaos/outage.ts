import { setTimeout as sleep } from "node:timers/promises";
import type { Store } from "./availability.ts";
import { batches, caughtUp, get, importPeople, post } from "./bulk.ts";
import { Judge, type Verdict } from "./check/evidence.ts";
import type { Target } from "./system.ts";

export interface OutageOptions {
  target: Target;
  /** Events published while the store is down. */
  count: number;
  /** How long it is down, at least. */
  seconds: number;
  say: (line: string) => void;
}

const DERIVED = ["clickhouse", "elasticsearch", "redis"] as const satisfies Store[];
type Derived = (typeof DERIVED)[number];
/** Changes of one user: the log keeps the last state of each, the facts keep all. */
const ROUNDS = 10;

export interface OutageResult {
  store: Derived;
  events: number;
  publishedSeconds: number;
  downSeconds: number;
  caughtUpSeconds: number;
  verdict: Verdict;
}

/**
 * Each derived store in turn is down while `count` events are published, then comes back: exact counts afterwards. ClickHouse misses tracked events,
 * Elasticsearch and Redis miss changes of users (imported, every user changed ten times).
 */
export async function outages(options: OutageOptions): Promise<OutageResult[]> {
  const results: OutageResult[] = [];
  for (const store of DERIVED) {
    results.push(await outage(store, options));
    const { events, publishedSeconds, downSeconds, caughtUpSeconds, verdict } = results.at(-1)!;
    options.say(
      `${verdict.violations.length === 0 ? "✓" : "✗"} ${store}: down ${downSeconds} s, ${events} events published in ${publishedSeconds} s, all there ${caughtUpSeconds} s after it was back (${verdict.checked} comparisons)`,
    );
    for (const violation of verdict.violations.slice(0, 10)) options.say(`    ${violation}`);
  }
  return results;
}

async function outage(store: Derived, { target, count, seconds, say }: OutageOptions): Promise<OutageResult> {
  const { injector } = target;
  const since = (start: number): number => Math.round((Date.now() - start) / 100) / 10;
  const down = Date.now();
  await injector.kill(store, { hold: true });
  say(`${store} is down; publishing ${count} events`);
  const published = store === "clickhouse" ? await track(target, count) : await change(target, store, count);
  const publishedSeconds = since(down);
  const left = down + seconds * 1000 - Date.now();
  if (left > 0) await sleep(left);
  const downSeconds = since(down);
  await injector.revive(store);
  const back = Date.now();
  await caughtUp(target, back);
  const caughtUpSeconds = since(back);
  const judge = new Judge("exact", `after an outage of ${store} everything published meanwhile is there, once`);
  await published(judge);
  return { store, events: count, publishedSeconds, downSeconds, caughtUpSeconds, verdict: judge.verdict() };
}

type Check = (judge: Judge) => Promise<void>;

async function track(target: Target, count: number): Promise<Check> {
  const name = `outage.r${Date.now().toString(36)}`;
  await batches(count, async (from, to, index) => {
    const events = Array.from({ length: to - from }, (_, i) => ({ id: `${name}-${from + i}`, name }));
    await post(target, "/v1/track", { events });
    // One in fifty is sent again, as a client does that got no answer.
    if (index % 50 === 0) await post(target, "/v1/track", { events });
  });
  return async (judge) => {
    const path = `/v1/analytics/events?name=${name}&interval=day&from=${new Date(Date.now() - 86_400_000).toISOString()}`;
    const { total } = (await get(target, path)) as { total: number };
    judge.check(total === count, () => `${total} events are counted, ${count} were sent`);
    if (!target.stores) return;
    const keys = new Set((await target.stores.read()).clickhouse.keys);
    judge.check(keys.size >= count, () => `${keys.size} facts are held`);
  };
}

async function change(target: Target, store: Derived, count: number): Promise<Check> {
  const people = Math.max(1, Math.floor(count / ROUNDS));
  const run = `outage-${store}-${Date.now().toString(36)}`;
  const ids = new Map<string, number>();
  for (let round = 1; round <= ROUNDS; round++) {
    const done = await importPeople(target, people, (i) => ({
      key: `${run}-${i}`,
      displayName: `Person ${i} r${round}`,
      bio: `${run} round ${round}`,
      tags: [store],
    }));
    for (const { id, revision } of done) ids.set(id, revision);
  }
  return async (judge) => {
    judge.check(ids.size === people, () => `${ids.size} users were imported, ${people} were sent`);
    if (!target.stores) return;
    const held = await target.stores.read();
    const redis = new Map(held.redis.map((u) => [u.id, u]));
    const search = new Map(held.elasticsearch.map((u) => [u.id, u]));
    const changes = new Map(held.clickhouse.changes.map((c) => [c.user, c.facts]));
    for (const user of held.postgres) {
      const expected = ids.get(user.id) ?? user.revision;
      judge.check(
        user.revision === expected,
        () => `${user.id}: ${user.revision} in PostgreSQL, ${expected} acknowledged`,
      );
      judge.check(redis.get(user.id)?.sessionDigest === user.sessionDigest, () => `${user.id} differs in Redis`);
      judge.check(search.get(user.id)?.digest === user.digest, () => `${user.id} differs in Elasticsearch`);
      judge.check(
        changes.get(user.id) === user.revision,
        () => `${user.id}: ${changes.get(user.id)} changes counted, revision ${user.revision}`,
      );
    }
    judge.check(
      redis.size === held.postgres.length,
      () => `${redis.size} in Redis, ${held.postgres.length} in PostgreSQL`,
    );
    judge.check(
      search.size === held.postgres.length,
      () => `${search.size} in Elasticsearch, ${held.postgres.length} in PostgreSQL`,
    );
  };
}
