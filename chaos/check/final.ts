import { createHash } from "node:crypto";
import { factId } from "@quartet/contracts";
import { trackedProperties } from "../history.ts";
import { type Evidence, Judge, type Verdict } from "./evidence.ts";
import type { Known, TrackFacts } from "./facts.ts";

/** What is left once everything has come to rest. */
export function checkFinal(evidence: Evidence, known: Known): Verdict[] {
  const { final } = evidence;
  const converged = new Judge(
    "converged",
    "once nothing is written any more, every read model catches up and every erasure completes",
  );
  converged.check(final.converged === true, () => String(final.converged));
  const letters = new Judge("no-dead-letters", "an outage is not poison: nothing is parked as a dead letter");
  letters.check(final.deadLetters === 0, () => `${final.deadLetters} dead letters`);
  return [
    converged.verdict(),
    acknowledged(evidence, known),
    people(evidence, known),
    sessions(evidence, known),
    facts(evidence, known),
    ...(final.stores ? [storesEqual(evidence)] : []),
    letters.verdict(),
  ];
}

function acknowledged({ final }: Evidence, known: Known): Verdict {
  const judge = new Judge("acknowledged", "every acknowledged write is there, at the owner and in search");
  for (const person of known.people.values()) {
    if (person.eraseTriedAt !== undefined || !final.users.has(person.id)) continue;
    const revision = final.users.get(person.id)!;
    if (revision === null) continue; // judged as a lost user
    judge.check(revision >= person.newest, () => `${person.id} is at ${revision}, ${person.newest} was acknowledged`);
    judge.check(person.tried.has(revision), () => `${person.id} is at revision ${revision}, which nobody made`);
    const shown = final.search.get(person.id);
    judge.check(
      shown === revision,
      () => `search shows ${person.id} at ${shown ?? "nothing"}, the owner at ${revision}`,
    );
  }
  return judge.verdict();
}

function people({ final, alone }: Evidence, known: Known): Verdict {
  const judge = new Judge("people", "no user is lost, and none who was erased comes back, in any store");
  const holders: [string, Iterable<string>][] = [["search", final.search.keys()]];
  const { stores } = final;
  if (stores) {
    holders.push(
      ["PostgreSQL", stores.postgres.map((u) => u.id)],
      ["Redis", stores.redis.map((u) => u.id)],
      ["Elasticsearch", stores.elasticsearch.map((u) => u.id)],
      ["ClickHouse", stores.clickhouse.named.map((u) => u.user)],
    );
  }
  const held = holders.map(([name, ids]) => [name, new Set(ids)] as const);
  for (const person of known.people.values()) {
    const found = final.users.get(person.id);
    if (person.erasedAt !== undefined) {
      judge.check(found === null || found === undefined, () => `${person.id} was erased and is there again`);
      for (const [name, ids] of held)
        judge.check(!ids.has(person.id), () => `${person.id} was erased and is in ${name}`);
    } else if (person.eraseTriedAt === undefined) {
      judge.check(found !== null, () => `${person.id} is lost`);
      for (const [name, ids] of held) judge.check(ids.has(person.id), () => `${person.id} is missing in ${name}`);
    }
  }
  if (alone && stores) {
    const unknown = [...known.signups.values()].filter((s) => s.ackedAt === undefined).length;
    const strangers = stores.postgres.filter((u) => !known.people.has(u.id)).length;
    judge.check(strangers <= unknown, () => `${strangers} users nobody signed up, ${unknown} sign-ups are unknown`);
  }
  return judge.verdict();
}

function sessions({ final }: Evidence, known: Known): Verdict {
  const judge = new Judge(
    "sessions",
    "sessions that were ended are gone (a changed password ends the others), those that were not still work",
  );
  for (const session of known.sessions.values()) {
    const status = final.sessions.get(session.id);
    if (status === undefined) continue;
    const person = known.people.get(session.user);
    const ended = session.endedAt !== undefined || person?.erasedAt !== undefined;
    const maybe = session.endTriedAt !== undefined || person?.eraseTriedAt !== undefined;
    if (ended)
      judge.check(
        status === 401,
        () => `session ${session.id} was ended (${session.why ?? "erased"}) and answers ${status}`,
      );
    else if (!maybe) judge.check(status === 200, () => `session ${session.id} was never ended and answers ${status}`);
  }
  return judge.verdict();
}

function facts({ final, baseline, alone }: Evidence, known: Known): Verdict {
  const judge = new Judge("facts", "every fact is counted exactly once");
  const least: Record<string, number> = {};
  const most: Record<string, number> = {};
  for (const { name, ackedAt } of known.tracks.values()) {
    most[name] = (most[name] ?? 0) + 1;
    if (ackedAt !== undefined) least[name] = (least[name] ?? 0) + 1;
  }
  const between = (what: string, total: number, from: number, to: number): void => {
    judge.check(total >= from, () => `${what}: ${total} counted, ${from} acknowledged`);
    if (alone) judge.check(total <= to, () => `${what}: ${total} counted, only ${to} sent`);
  };
  for (const [name, total] of Object.entries(final.counts)) {
    const start = baseline.counts[name] ?? 0;
    between(name, total, start + (least[name] ?? 0), start + (most[name] ?? 0));
  }
  const acked = [...known.signups.values()].filter((s) => s.ackedAt !== undefined).length;
  between("sign-ups", final.signups, baseline.signups + acked, baseline.signups + known.signups.size);
  if (!final.stores) return judge.verdict();

  const { clickhouse, postgres } = final.stores;
  const keys = new Set(clickhouse.keys);
  judge.check(keys.size === clickhouse.keys.length, () => "a fact is there twice");
  for (const track of known.tracks.values()) {
    if (track.ackedAt === undefined) continue;
    judge.check(keys.has(keyOf(factIdOf(track))), () => `event ${track.id} (${track.name}) is lost`);
  }
  for (const session of known.sessions.values()) {
    judge.check(keys.has(keyOf(factId.sessionStarted(session.id))), () => `the start of session ${session.id} is lost`);
    if (session.endedAt !== undefined) {
      judge.check(keys.has(keyOf(factId.sessionEnded(session.id))), () => `the end of session ${session.id} is lost`);
    }
  }
  const changes = new Map(clickhouse.changes.map((c) => [c.user, c.facts]));
  for (const user of postgres) {
    if (!known.people.has(user.id)) continue;
    const counted = changes.get(user.id) ?? 0;
    judge.check(counted === user.revision, () => `${user.id}: ${counted} changes counted, revision ${user.revision}`);
  }
  return judge.verdict();
}

/** The key under which ClickHouse keeps a fact: the first 128 bits of SHA-256 of its id. */
export function keyOf(id: string): string {
  return BigInt(`0x${createHash("sha256").update(id).digest("hex").slice(0, 32)}`).toString();
}

function storesEqual({ final }: Evidence): Verdict {
  const judge = new Judge("stores-equal", "the stores hold the same people at the same revision with the same content");
  const { postgres, redis, elasticsearch } = final.stores!;
  const inRedis = new Map(redis.map((u) => [u.id, u]));
  const inSearch = new Map(elasticsearch.map((u) => [u.id, u]));
  for (const user of postgres) {
    const copy = inRedis.get(user.id);
    judge.check(
      copy?.revision === user.revision && copy.sessionDigest === user.sessionDigest,
      () => `${user.id}: revision ${user.revision} in PostgreSQL, ${copy?.revision ?? "nothing"} in Redis`,
    );
    const document = inSearch.get(user.id);
    judge.check(
      document?.revision === user.revision && document.digest === user.digest,
      () => `${user.id}: revision ${user.revision} in PostgreSQL, ${document?.revision ?? "nothing"} in Elasticsearch`,
    );
    inRedis.delete(user.id);
    inSearch.delete(user.id);
  }
  for (const id of inRedis.keys()) judge.check(false, () => `${id} is in Redis and not in PostgreSQL`);
  for (const id of inSearch.keys()) judge.check(false, () => `${id} is in Elasticsearch and not in PostgreSQL`);
  return judge.verdict();
}

/** The id under which Analytics has a tracked event. */
export function factIdOf({ caller, id, name }: Pick<TrackFacts, "caller" | "id" | "name">): string {
  if (caller !== "anonymous") return factId.track(caller, id);
  return factId.anonymousTrack(id, { name, properties: trackedProperties });
}
