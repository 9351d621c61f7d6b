import { readFileSync } from "node:fs";
import {
  auditBucket,
  BucketDigest,
  decodeEvent,
  type QuartetEvent,
  sessionProfileDigest,
  type UserEvent,
} from "@quartet/contracts";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { type Item, latestPerKey } from "@quartet/projection";
import { checkProjection } from "@quartet/projection/testing";
import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createProfiles } from "../src/store/profiles.ts";
import { connectRedis, type RedisStore } from "../src/store/redis.ts";
import { createSessions } from "../src/store/sessions.ts";
import { type Person, stateOf } from "./world.ts";

let engine: TestEngine;
let admin: Redis;

beforeAll(async () => {
  engine = await createTestEngine("redis");
  admin = new Redis(engine.url);
});
afterAll(async () => {
  admin?.disconnect();
  await engine?.dispose();
});

async function open(): Promise<RedisStore> {
  const store = connectRedis(engine.urlFor("session"), 5000, () => {});
  if (store.redis.status !== "ready") await new Promise((ready) => store.redis.once("ready", ready));
  return store;
}

const PEOPLE = Array.from({ length: 3 }, (_, i) => `01a00000-0000-7000-8000-0000000000b${i}`);
const SESSIONS = ["one", "two"];
const limits = { ttlMs: 3_600_000, maxMs: 3_600_000, perUser: 10 };

/** Changed names, changed passwords that keep one living session or none, erasures (and repairs of them). */
const histories: fc.Arbitrary<UserEvent[]> = fc
  .array(fc.record({ who: fc.nat(2), kind: fc.constantFrom("name", "name", "password", "erase"), n: fc.nat(9) }), {
    maxLength: 25,
    size: "max",
  })
  .map((changes) => {
    const people = PEOPLE.map((id): Person & { living: string[] } => ({
      id,
      handle: "h",
      displayName: "d",
      version: 1,
      credentialEpoch: 0,
      keptSessionId: null,
      erased: false,
      living: SESSIONS.map((s) => `${id}-${s}`),
    }));
    return changes.map(({ who, kind, n }) => {
      const p = people[who] as (typeof people)[number];
      p.version++;
      if (kind === "erase") p.erased = true;
      if (kind === "name") p.displayName = `name ${n}`;
      if (kind === "password") {
        p.credentialEpoch++;
        p.keptSessionId = p.living[n] ?? null;
        p.living = p.keptSessionId ? [p.keptSessionId] : [];
      }
      return stateOf(p).event as UserEvent;
    });
  });

interface Shown {
  profiles: Record<string, Record<string, string>>;
  sessions: string[];
  /** Sessions with an ended event, one entry for each event. */
  ended: string[];
}

const allSessions = PEOPLE.flatMap((id) => SESSIONS.map((s) => `${id}-${s}`));

function expected(history: UserEvent[]): Shown {
  const newest = new Map(history.map((e) => [e.data.id, e]));
  const shown: Shown = { profiles: {}, sessions: [], ended: [] };
  for (const id of PEOPLE) {
    const e = newest.get(id);
    const mine = allSessions.filter((s) => s.startsWith(id));
    let living = mine;
    if (e?.type === "quartet.user.tombstone.v1") {
      shown.profiles[id] = { version: String(e.version), erasedAt: e.data.deletedAt };
      living = [];
    } else {
      const { revision, handle, displayName, credentialEpoch, keptSessionId } = e?.data ?? {
        revision: 1,
        handle: "h",
        displayName: "d",
        credentialEpoch: 0,
        keptSessionId: null,
      };
      shown.profiles[id] = {
        version: String(e?.version ?? 1),
        revision: String(revision),
        handle,
        displayName,
        epoch: String(credentialEpoch),
      };
      if (credentialEpoch > 0) living = mine.filter((s) => s === keptSessionId);
    }
    shown.sessions.push(...living);
    shown.ended.push(...mine.filter((s) => !living.includes(s)));
  }
  return { ...shown, sessions: shown.sessions.sort(), ended: shown.ended.sort() };
}

/** As the service's projector applies a batch. */
async function deliver(store: RedisStore, batch: Item<UserEvent>[]) {
  const folded = latestPerKey(
    batch,
    (e) => e.subject,
    (e) => e.version as number,
  );
  await createProfiles(store).apply(folded.latest.map((item) => item.event));
  return folded.spread(folded.latest.map(() => "applied" as const));
}

test("any order, duplicates, cuts, restarts and compaction: profiles, sessions and their ends are what the newest state says", async () => {
  await checkProjection<UserEvent, Shown>({
    history: histories,
    model: expected,
    compactedBy: (e) => e.data.id,
    runs: 60,
    async fresh() {
      await admin.flushall();
      let store = await open();
      for (const id of PEOPLE) await logInBoth(store, id);
      return {
        deliver: (batch) => deliver(store, batch),
        async restart() {
          store.close();
          store = await open();
        },
        async read() {
          const profiles: Shown["profiles"] = {};
          for (const id of PEOPLE) profiles[id] = { ...(await admin.hgetall(`profile:${id}`)) };
          const sessions = (await admin.keys("session:*")).map((key) => key.slice("session:".length)).sort();
          const ended = (await admin.xrange("outbox:events", "-", "+")).flatMap(([, fields]) => {
            const event = decodeEvent(Buffer.from(fields[fields.indexOf("payload") + 1] as string)) as QuartetEvent;
            return event.type === "quartet.session.ended.v1" ? [event.data.sessionId] : [];
          });
          return { profiles, sessions, ended: ended.sort() };
        },
        async close() {
          store.close();
        },
      };
    },
  });
}, 180_000);

/** Two sessions of a person at version 1, under names that the histories know. */
async function logInBoth(store: RedisStore, userId: string): Promise<void> {
  const user = {
    userId,
    handle: "h",
    displayName: "d",
    credentialEpoch: 0,
    keptSessionId: null,
    version: 1,
    revision: 1,
  };
  for (const name of SESSIONS) {
    const made = await createSessions(store.run, limits).create(user, undefined, { own: "x", name: "x" }, "x");
    if (made.outcome !== "created") throw new Error(made.outcome);
    const { id } = made.session;
    const renamed = `${userId}-${name}`;
    await admin.rename(`session:${id}`, `session:${renamed}`);
    for (const key of ["expiries", `sessions-of:${userId}`]) {
      const score = (await admin.zscore(key, id)) as string;
      await admin.multi().zrem(key, id).zadd(key, score, renamed).exec();
    }
  }
}

test("digests are those of the contract, over what is held; the erased are not in them", async () => {
  await admin.flushall();
  const store = await open();
  try {
    const profiles = createProfiles(store);
    const people = Array.from({ length: 700 }, (_, i): Person => {
      const id = `01a00000-0000-7000-8000-0000000${(i * 37).toString(16).padStart(5, "0")}`;
      const erased = i % 10 === 0;
      return {
        id,
        handle: `h${i}`,
        displayName: `é ${i}`,
        version: i + 1,
        credentialEpoch: 0,
        keptSessionId: null,
        erased,
      };
    });
    await profiles.apply(people.map((p) => stateOf(p).event as UserEvent));
    const sums = Array.from({ length: 256 }, () => new BucketDigest());
    for (const { erased, id, handle, displayName, version } of people) {
      if (erased) continue;
      const profile = { id, handle, displayName, revision: version, credentialEpoch: 0 };
      sums[auditBucket(id)]?.add(id, sessionProfileDigest(profile), version);
    }
    expect(await profiles.digests()).toEqual(sums.map((s) => s.value()));
    expect(await profiles.counts()).toEqual({ sessions: 0, profiles: 630 });
    const [one] = await profiles.bucket(auditBucket((people[1] as Person).id));
    expect(one).toMatchObject({ id: expect.any(String), version: expect.any(Number) });
  } finally {
    store.close();
  }
});

test("a watermark never goes back", async () => {
  const store = await open();
  try {
    const profiles = createProfiles(store);
    const times = fc.array(fc.date({ min: new Date(0), max: new Date("2100-01-01"), noInvalidDate: true }), {
      minLength: 1,
    });
    await fc.assert(
      fc.asyncProperty(times, async (list) => {
        await admin.del("watermark:user");
        for (const at of list) await profiles.moveWatermark("user", at);
        const latest = new Date(Math.max(...list.map((d) => d.getTime()))).toISOString();
        expect(await profiles.asOf()).toBe(latest);
        const never = { a: { user: "2100-01-01T00:00:00.001Z" } };
        expect(await profiles.see([{ a: { user: latest } }, never])).toEqual([true, false]);
      }),
      { numRuns: 20 },
    );
  } finally {
    store.close();
  }
});

test("the scripts' calendar is the calendar", async () => {
  const lib = readFileSync(new URL("../src/store/lua/lib.lua", import.meta.url), "utf8");
  const script = `${lib}\nreturn { utc_day(tonumber(ARGV[1])), rfc3339(tonumber(ARGV[1])), digits(tonumber(ARGV[1])) }`;
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: Date.UTC(2200, 0, 1) }), async (ms) => {
      const iso = new Date(ms).toISOString();
      expect(await admin.eval(script, 0, ms)).toEqual([iso.slice(0, 10), iso, String(ms)]);
    }),
    {
      numRuns: 500,
      examples: [[0], [Date.UTC(2024, 1, 29)], [Date.UTC(2100, 1, 28, 23, 59, 59, 999)], [Date.UTC(2100, 2, 1)]],
    },
  );
});
