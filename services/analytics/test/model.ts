import type { PropertyValue, SessionEndReason } from "@quartet/contracts";
import fc from "fast-check";
import type { Fact } from "../src/store/facts.ts";

/** What Analytics should answer, worked out the slow and obvious way from the list of facts. Times are ms since 1970. */
export type Interval = "hour" | "day" | "week" | "month";
export interface Range {
  from: number;
  to: number;
}

const iso = (ms: number) => new Date(ms).toISOString();

/** Of facts with one id the first accepted counts. */
export function counted(facts: Fact[]): Fact[] {
  const first = new Map<string, Fact>();
  for (const fact of facts) {
    const held = first.get(fact.id);
    if (!held || acceptedBefore(fact, held)) first.set(fact.id, fact);
  }
  return [...first.values()];
}

function acceptedBefore(a: Fact, b: Fact): boolean {
  return a.acceptedAt === b.acceptedAt ? a.sequence < b.sequence : a.acceptedAt < b.acceptedAt;
}

/** The start of the hour, day, week (Monday) or month that holds a time, by the calendar of Date. */
function startOf(interval: Interval, ms: number): number {
  const d = new Date(ms);
  d.setUTCMinutes(0, 0, 0);
  if (interval === "hour") return d.getTime();
  d.setUTCHours(0);
  if (interval === "month") d.setUTCDate(1);
  if (interval === "week") while (d.getUTCDay() !== 1) d.setUTCDate(d.getUTCDate() - 1);
  return d.getTime();
}

/** The starts of all intervals that a range touches. */
function starts(interval: Interval, { from, to }: Range): number[] {
  const found: number[] = [];
  for (let at = startOf(interval, from); at < to; ) {
    found.push(at);
    const next = new Date(at);
    if (interval === "hour") next.setUTCHours(next.getUTCHours() + 1);
    else if (interval === "month") next.setUTCMonth(next.getUTCMonth() + 1);
    else next.setUTCDate(next.getUTCDate() + (interval === "week" ? 7 : 1));
    at = next.getTime();
  }
  return found;
}

const inside = ({ from, to }: Range, fact: Fact) => fact.occurredAt >= from && fact.occurredAt < to;

function series(facts: Fact[], interval: Interval, range: Range) {
  const found = facts.filter((f) => inside(range, f));
  const points = starts(interval, range).map((at) => ({
    at: iso(at),
    count: found.filter((f) => startOf(interval, f.occurredAt) === at).length,
  }));
  return { series: points, total: found.length };
}

const isActivity = (f: Fact) =>
  f.userId !== null && (f.kind === "track" || (f.kind === "session" && (f.name === "started" || f.name === "active")));

export const model = {
  signups: (facts: Fact[], interval: Interval, range: Range) =>
    series(
      counted(facts).filter((f) => f.kind === "user" && f.name === "created"),
      interval,
      range,
    ),

  events: (facts: Fact[], name: string, interval: Interval, range: Range) =>
    series(
      counted(facts).filter((f) => f.kind === "track" && f.name === name),
      interval,
      range,
    ),

  activeUsers(facts: Fact[], interval: Interval, range: Range) {
    const active = counted(facts).filter((f) => isActivity(f) && inside(range, f));
    const users = (at: number) =>
      new Set(active.filter((f) => startOf(interval, f.occurredAt) === at).map((f) => f.userId)).size;
    return { series: starts(interval, range).map((at) => ({ at: iso(at), users: users(at) })) };
  },

  sessions(facts: Fact[], range: Range) {
    const found = counted(facts).filter((f) => f.kind === "session" && inside(range, f));
    const over = found.filter((f) => f.name === "ended");
    const durations = over.map((f) => f.durationSeconds ?? 0).sort((a, b) => a - b);
    const quantile = (p: number) => durations[Math.floor(p * durations.length)] ?? null;
    const ended = (reason: SessionEndReason) => over.filter((f) => f.reason === reason).length;
    return {
      started: found.filter((f) => f.name === "started").length,
      ended: {
        logout: ended("logout"),
        revoked: ended("revoked"),
        expired: ended("expired"),
        erased: ended("erased"),
      },
      durationSeconds: { p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99) },
    };
  },

  retention(facts: Fact[], cohort: Interval, periods: number, range: Range) {
    const active = counted(facts).filter(isActivity);
    const people = [...new Set(active.map((f) => f.userId))].map((user) =>
      active.filter((f) => f.userId === user).map((f) => f.occurredAt),
    );
    const cohorts = starts(cohort, range).map((at) => {
      const members = people.filter((times) => {
        const first = Math.min(...times);
        return first >= range.from && first < range.to && startOf(cohort, first) === at;
      });
      // Enough starts from this cohort on, whatever the length of its months.
      const later = starts(cohort, { from: at, to: at + (periods + 1) * 32 * 86_400_000 });
      const counts = Array.from(
        { length: periods },
        (_, k) => members.filter((times) => times.some((t) => startOf(cohort, t) === later[k])).length,
      );
      return { at: iso(at), size: members.length, active: counts };
    });
    return { cohorts };
  },

  /** Tries every choice of events. */
  funnel(facts: Fact[], steps: string[], withinMs: number, range: Range) {
    const tracked = counted(facts)
      .filter((f) => f.kind === "track" && f.userId !== null && inside(range, f))
      .sort((a, b) => a.occurredAt - b.occurredAt || (acceptedBefore(a, b) ? -1 : 1));
    const level = (journey: Fact[]): number => {
      const deepest = (step: number, from: number, began: number): number => {
        if (step === steps.length) return step;
        let best = step;
        for (let i = from; i < journey.length; i++) {
          const { name, occurredAt } = journey[i] as Fact;
          if (name !== steps[step] || (step > 0 && occurredAt - began > withinMs)) continue;
          best = Math.max(best, deepest(step + 1, i + 1, step === 0 ? occurredAt : began));
        }
        return best;
      };
      return deepest(0, 0, 0);
    };
    const levels = [...new Set(tracked.map((f) => f.userId))].map((user) =>
      level(tracked.filter((f) => f.userId === user)),
    );
    return { steps: steps.map((name, i) => ({ name, users: levels.filter((l) => l > i).length })) };
  },

  top(facts: Fact[], name: string, property: string, limit: number, range: Range) {
    const counts = new Map<string, number>();
    for (const f of counted(facts)) {
      if (f.kind !== "track" || f.name !== name || !inside(range, f) || !f.properties) continue;
      if (!Object.hasOwn(f.properties, property)) continue;
      const value = JSON.stringify(f.properties[property]);
      counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    return [...counts]
      .map(([value, count]) => ({ value: JSON.parse(value) as PropertyValue, count }))
      .sort(
        (a, b) =>
          b.count - a.count ||
          Buffer.compare(Buffer.from(JSON.stringify(a.value)), Buffer.from(JSON.stringify(b.value))),
      )
      .slice(0, limit);
  },
};

export const NAMES = ["a", "b", "c.d"];
const USERS = Array.from({ length: 4 }, (_, i) => `01a00000-0000-7000-8000-00000000000${i}`);
const HOUR = 3_600_000;
/** A Sunday, near the end of a month, and the first week of time. */
const EPOCHS = [Date.UTC(2024, 1, 25), Date.UTC(2024, 1, 29, 22), Date.UTC(2023, 11, 31, 20), 0];

/** Lists of facts in which times, names, people and ids meet often. Accepted in the order of the list. */
export function factLists(): fc.Arbitrary<Fact[]> {
  const time = fc
    .tuple(
      fc.constantFrom(...EPOCHS),
      fc.oneof(
        fc.nat(6).map((h) => h * HOUR),
        fc.nat(70 * 24).map((h) => h * HOUR),
        fc.nat(3),
      ),
    )
    .map(([base, offset]) => base + offset);
  const value: fc.Arbitrary<PropertyValue> = fc.oneof(
    fc.constantFrom<PropertyValue>("x", "1", 1, 1.5, -2, true, false, null, "", "é\"'\\"),
    fc.string({ maxLength: 5 }),
  );
  const what = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant("track" as const), name: fc.constantFrom(...NAMES) }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("session" as const),
        name: fc.constantFrom("started", "active", "ended"),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("user" as const), name: fc.constantFrom("created", "updated") }),
    },
  );
  const fact = fc.record({
    id: fc.nat(40).map(String),
    what,
    user: fc.option(fc.constantFrom(...USERS), { freq: 5 }),
    occurredAt: time,
    reason: fc.constantFrom<SessionEndReason>("logout", "revoked", "expired", "erased"),
    durationSeconds: fc.nat(100_000).map((n) => n / 1000),
    properties: fc.dictionary(fc.constantFrom("p", "q"), value, { maxKeys: 2, noNullPrototype: true }),
    /** Several messages of one instant are told apart by their sequence. */
    pause: fc.nat(1),
  });
  return fc.array(fact, { maxLength: 60, size: "max" }).map((list) => {
    let at = 1_700_000_000_000n;
    return list.map(({ id, what, user, occurredAt, reason, durationSeconds, properties, pause }, i) => {
      at += BigInt(pause);
      return {
        id: `t:${id}`,
        ...what,
        userId: what.kind === "track" ? user : (user ?? (USERS[0] as string)),
        occurredAt,
        ...(what.name === "ended" ? { reason, durationSeconds } : {}),
        ...(what.kind === "track" ? { properties } : {}),
        acceptedAt: at,
        sequence: i + 1,
      };
    });
  });
}

/** Ranges that begin and end anywhere around those times. */
export function ranges(maxDays: number): fc.Arbitrary<Range> {
  return fc
    .tuple(
      fc.constantFrom(...EPOCHS),
      fc.integer({ min: -30 * 24, max: 40 * 24 }),
      fc.integer({ min: 1, max: maxDays * 24 * 60 }),
    )
    .map(([base, hours, minutes]) => {
      const from = Math.max(0, base + hours * HOUR);
      return { from, to: from + minutes * 60_000 };
    });
}
