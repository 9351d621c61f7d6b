import { setTimeout as sleep } from "node:timers/promises";
import { caughtUp, importPeople, post } from "./bulk.ts";
import { Judge, type Verdict } from "./check/evidence.ts";
import type { Random } from "./random.ts";
import { type Forgery, forgeries } from "./stores/forgeries.ts";
import type { Target } from "./system.ts";

export interface DriftOptions {
  target: Target;
  /** So many people are there when somebody tampers with nine of them. */
  users: number;
  /** How often. The audit is found in another place of its round each time. */
  rounds: number;
  random: Random;
  say: (line: string) => void;
}

export interface DriftResult {
  users: number;
  /** Seconds from the change to its repair, of each kind in each store, round by round; null: not within three minutes. */
  repaired: { store: Forgery["store"]; what: Forgery["what"]; seconds: (number | null)[] }[];
  verdict: Verdict;
}

const WITHIN_SECONDS = 60;
const GIVE_UP_MS = 180_000;
const LOOK_MS = 500;
/** One round of the audit begins every half minute. */
const AUDIT_MS = 30_000;

/** With many people: what is deleted, altered or invented by hand in a derived store is found by the audit that always runs, and put right within a minute. */
export async function drift({ target, users, rounds, random, say }: DriftOptions): Promise<DriftResult> {
  const { stores } = target;
  if (!stores) throw new Error("what the stores hold cannot be changed by hand here");
  const run = Date.now().toString(36);
  say(`importing ${users} people`);
  const people = await importPeople(target, users, (i) => ({
    key: `drift-${run}-${i}`,
    displayName: `Person ${i}`,
    bio: `bio ${i}`,
    tags: ["drift"],
  }));
  const victims = Array.from(
    { length: 9 * rounds },
    (_, i) => people[Math.floor((i * people.length) / (9 * rounds))]!.id,
  );
  const event = `drift.${run}`;
  const events = victims.map((userId) => ({ name: event, userId, properties: {} }));
  for (let i = 0; i < events.length; i += 500) await post(target, "/v1/track", { events: events.slice(i, i + 500) });
  await caughtUp(target, Date.now());
  const repaired: DriftResult["repaired"] = [];
  const judge = new Judge(
    "audit",
    `with ${users} people, what was changed by hand is as it was within ${WITHIN_SECONDS} s`,
  );
  for (let round = 0; round < rounds; round++) {
    await sleep(random.int(0, AUDIT_MS));
    const found = await oneRound(forgeries(stores.ask, { people: victims.slice(9 * round, 9 * round + 9), event }));
    for (const [i, { store, what, seconds }] of found.entries()) {
      repaired[i] ??= { store, what, seconds: [] };
      repaired[i].seconds.push(seconds);
      judge.check(
        seconds !== null && seconds <= WITHIN_SECONDS,
        () => `${store}, ${what}: ${seconds === null ? "never" : `after ${seconds} s`}`,
      );
    }
    say(
      `round ${round + 1}: ${found.map(({ store, what, seconds }) => `${store} ${what} ${seconds ?? "never"} s`).join(", ")}`,
    );
  }
  return { users, repaired, verdict: judge.verdict() };
}

interface Repair {
  store: Forgery["store"];
  what: Forgery["what"];
  seconds: number | null;
}

async function oneRound(all: Forgery[]): Promise<Repair[]> {
  const from = new Map<Forgery, number>();
  for (const forgery of all) {
    await forgery.forge();
    from.set(forgery, Date.now());
    if (await forgery.mended()) throw new Error(`${forgery.store}, ${forgery.what}: the change by hand did not take`);
  }
  return Promise.all(
    all.map(async (forgery) => {
      const began = from.get(forgery)!;
      const took = (): number => Math.round((Date.now() - began) / 100) / 10;
      const { store, what } = forgery;
      while (!(await forgery.mended())) {
        if (Date.now() - began > GIVE_UP_MS) return { store, what, seconds: null };
        await sleep(LOOK_MS);
      }
      return { store, what, seconds: took() };
    }),
  );
}
