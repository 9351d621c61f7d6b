import { parseArgs } from "node:util";
import type { ImportedEvent, ImportedUser } from "@quartet/contracts";
import { findSystem, UsageError } from "./client.ts";
import { interests, locales, sentences } from "./names.ts";
import { Progress } from "./progress.ts";
import { uploadEvents, uploadUsers } from "./upload.ts";

const USAGE = "Usage: npm run seed -- --users N [--seed S] [--events N-per-user]";

/** A small deterministic generator (mulberry32): the same seed and index give the same person on every machine. */
function random(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function pick<T>(next: () => number, from: readonly T[]): T {
  return from[Math.floor(next() * from.length)] as T;
}

/** Person number `index` of a seed. */
export function person(seed: number, index: number): ImportedUser {
  const next = random(Math.imul(seed + 1, 2654435761) ^ Math.imul(index + 1, 40503));
  for (let i = 0; i < 3; i++) next();
  const locale = pick(next, locales);
  const given = pick(next, locale.given);
  const family = pick(next, locale.family);
  const joiner = locale.joiner ?? " ";
  const tags = new Set<string>();
  for (let i = Math.floor(next() * 5); i > 0; i--) tags.add(pick(next, interests));
  const nick = pick(next, ["sky", "river", "fox", "pixel", "nova", "echo", "maple", "comet", "otter", "quill"]);
  return {
    key: `seed:${seed}:${index}`,
    email: `seed.${seed}.${index}@example.org`,
    handle: `${nick}_${seed.toString(36)}_${index.toString(36)}`,
    displayName: locale.familyFirst ? `${family}${joiner}${given}` : `${given}${joiner}${family}`,
    bio: next() < 0.6 ? pick(next, sentences) : "",
    country: locale.country,
    tags: [...tags],
  };
}

const DAY = 86_400_000;
const journey = ["visit", "search", "profile.view", "message", "purchase"];

/** Events of one person: a visit, often a next step, over the last eight weeks counted from the day of the run. */
export function* activity(
  seed: number,
  index: number,
  perUser: number,
  userId: string,
  today: number,
): Generator<ImportedEvent> {
  const next = random(Math.imul(seed + 7, 2246822519) ^ Math.imul(index + 1, 3266489917));
  const joined = today - Math.floor(next() * 56) * DAY;
  let step = 0;
  for (let i = 0; i < perUser; i++) {
    const at = Math.min(joined + Math.floor((next() ** 2 * (today - joined)) / 1) + i * 60_000, today);
    yield {
      id: `seed-${seed}-${index}-${i}`,
      name: journey[step] as string,
      occurredAt: new Date(at).toISOString(),
      userId,
      properties: { device: pick(next, ["phone", "laptop", "tablet"]), step: i },
    };
    step = next() < 0.6 ? Math.min(step + 1, journey.length - 1) : 0;
  }
}

function whole(name: string, text: string | undefined, fallback: number, max: number): number {
  if (text === undefined) return fallback;
  if (!/^\d+$/.test(text) || Number(text) > max)
    throw new UsageError(`--${name} must be a whole number up to ${max}.\n${USAGE}`);
  return Number(text);
}

/** `npm run seed -- --users N`: plausible people of many countries and scripts. The same seed is the same people: a rerun adds nobody. */
export async function main(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { users: { type: "string" }, seed: { type: "string" }, events: { type: "string" } },
  });
  const count = whole("users", values.users, 1000, 10_000_000);
  const seed = whole("seed", values.seed, 1, 1_000_000);
  const perUser = whole("events", values.events, 0, 1000);
  const system = findSystem();
  const started = performance.now();

  const progress = new Progress("people", count);
  const ids: string[] = [];
  const totals = { created: 0, updated: 0, unchanged: 0 };
  for (let from = 0; from < count; from += 5000) {
    const people = Array.from({ length: Math.min(5000, count - from) }, (_, i) => person(seed, from + i));
    const { ids: byKey, outcome } = await uploadUsers(system, people, progress);
    for (const { key } of people) ids.push(byKey.get(key) as string);
    for (const k of ["created", "updated", "unchanged"] as const) totals[k] += outcome[k];
  }
  progress.stop();
  if (perUser > 0) {
    const today = Math.floor(Date.now() / DAY) * DAY;
    function* events() {
      for (const [index, id] of ids.entries()) yield* activity(seed, index, perUser, id, today);
    }
    const bar = new Progress("events", count * perUser);
    await uploadEvents(system, events(), bar);
    bar.stop();
  }
  const seconds = (performance.now() - started) / 1000;
  console.log(
    `${count} people of seed ${seed}: ${totals.created} new, ${totals.updated} changed, ${totals.unchanged} as before, in ${seconds.toFixed(1)} s.`,
  );
}
