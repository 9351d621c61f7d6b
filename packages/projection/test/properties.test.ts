import { createTestEngine } from "@quartet/engines";
import fc from "fast-check";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Item, latestPerKey, StoreUnavailable, type Verdict } from "../src/index.ts";
import {
  checkProjection,
  facts,
  newestStates,
  type StateChange,
  type StoreUnderTest,
  stateChanges,
} from "../src/testing.ts";
import {
  type Bench,
  contents,
  makeStream,
  project,
  publishAll,
  redisClient,
  startBench,
  state,
  stopAll,
  type TestEvent,
  until,
  upsert,
} from "./support.ts";

let bench: Bench;
let runs = 0;
beforeAll(async () => {
  bench = await startBench();
});
afterEach(stopAll);
afterAll(() => bench.end());

type States = Record<string, StateChange["value"]>;

/** A state projection into a Redis hash; tombstones stay in the store. */
function stateStore(apply: (hash: string) => StoreUnderTest<StateChange, States>["deliver"]) {
  return async (): Promise<StoreUnderTest<StateChange, States>> => {
    const hash = `states${++runs}`;
    return {
      deliver: apply(hash),
      async read() {
        const all = Object.entries(await contents(bench.db, hash)).filter(([, { value }]) => value !== null);
        return Object.fromEntries(
          all.sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, { value }]) => [k, value as StateChange["value"]]),
        );
      },
      async close() {
        await bench.db.del(hash);
      },
    };
  };
}

const versioned = (hash: string) => (batch: Item<StateChange>[]) => upsert(bench.db, hash, batch as Item<TestEvent>[]);

describe("any order, duplicates, cuts and restarts", () => {
  it("give the model's state, also when superseded events never come", async () => {
    await checkProjection({
      history: stateChanges(),
      fresh: stateStore(versioned),
      model: newestStates,
      compactedBy: (change) => change.key,
      runs: 150,
    });
  });

  it("give the same when batches are folded to the newest per key", async () => {
    await checkProjection({
      history: stateChanges(),
      fresh: stateStore((hash) => async (batch) => {
        const folded = latestPerKey(
          batch,
          (e) => e.key,
          (e) => e.version,
        );
        return folded.spread(await versioned(hash)(folded.latest));
      }),
      model: newestStates,
      runs: 100,
    });
  });

  it("give the same in PostgreSQL", async () => {
    const engine = await createTestEngine("postgres");
    const pool = new pg.Pool({ connectionString: engine.url, max: 2 });
    try {
      await checkProjection({
        history: stateChanges(),
        fresh: async () => {
          const table = `states${++runs}`;
          await pool.query(`CREATE TABLE ${table} (key text PRIMARY KEY, version bigint NOT NULL, value jsonb)`);
          return {
            async deliver(batch) {
              const { latest, spread } = latestPerKey(
                batch,
                (e) => e.key,
                (e) => e.version,
              );
              const { rows } = await pool.query<{ key: string }>(
                `INSERT INTO ${table} AS t SELECT * FROM jsonb_to_recordset($1) AS r(key text, version bigint, value jsonb)
                 ON CONFLICT (key) DO UPDATE SET version = excluded.version, value = excluded.value WHERE t.version < excluded.version
                 RETURNING key`,
                [JSON.stringify(latest.map(({ event }) => ({ ...event, value: event.value ?? undefined })))],
              );
              const written = new Set(rows.map((row) => row.key));
              return spread(latest.map(({ event }): Verdict => (written.has(event.key) ? "applied" : "stale")));
            },
            async read() {
              const { rows } = await pool.query<StateChange>(
                `SELECT key, value FROM ${table} WHERE value IS NOT NULL ORDER BY key COLLATE "C"`,
              );
              return Object.fromEntries(rows.map(({ key, value }) => [key, value]));
            },
            async close() {
              await pool.query(`DROP TABLE ${table}`);
            },
          };
        },
        model: (history): States =>
          newestStates(
            history.map((c) => ({ ...c, value: c.value && { ...c.value, name: c.value.name.replaceAll("\0", "") } })),
          ),
        runs: 50,
      });
    } finally {
      await pool.end();
      await engine.dispose();
    }
  });

  it("count every fact once", async () => {
    await checkProjection({
      history: facts(),
      fresh: async () => {
        const ids = `ids${++runs}`;
        const sums = `sums${runs}`;
        let db = redisClient(bench.redis.url);
        const count = `local out = {} for i = 1, #ARGV, 3 do
          if redis.call('SADD', KEYS[1], ARGV[i]) == 1 then redis.call('HINCRBY', KEYS[2], ARGV[i + 1], ARGV[i + 2]) out[#out + 1] = 'applied'
          else out[#out + 1] = 'stale' end end return out`;
        return {
          async deliver(batch) {
            const values = batch.flatMap(({ event }) => [event.id, event.name, String(event.amount)]);
            return values.length === 0 ? [] : ((await db.eval(count, 2, ids, sums, ...values)) as Verdict[]);
          },
          async read() {
            return Object.fromEntries(Object.entries(await db.hgetall(sums)).sort());
          },
          async restart() {
            db.disconnect();
            db = redisClient(bench.redis.url);
            await until("reconnected", () => db.status === "ready");
          },
          async close() {
            await db.del(ids, sums);
            db.disconnect();
          },
        };
      },
      model(history) {
        const sums = new Map<string, number>();
        for (const { name, amount } of history) sums.set(name, (sums.get(name) ?? 0) + amount);
        return Object.fromEntries([...sums].map(([name, sum]) => [name, String(sum)]).sort());
      },
      runs: 60,
    });
  });

  it.each([
    [
      "the last writer wins",
      async (hash: string, batch: Item<StateChange>[]) => {
        for (const { event } of batch)
          await bench.db.hset(hash, event.key, `${event.version} ${JSON.stringify(event.value)}`);
      },
    ],
    [
      "a tombstone is forgotten",
      async (hash: string, batch: Item<StateChange>[]) => {
        for (const item of batch) {
          if (item.event.value === null) await bench.db.hdel(hash, item.event.key);
          else await versioned(hash)([item]);
        }
      },
    ],
  ])("are noticed by the property when %s", async (_, write) => {
    const property = checkProjection({
      history: stateChanges(),
      fresh: stateStore((hash) => async (batch) => {
        await write(hash, batch);
        return batch.map(() => "applied");
      }),
      model: newestStates,
      runs: 150,
    });
    await expect(property).rejects.toThrow(/Property failed/);
  });
});

describe("the whole way through JetStream", () => {
  it("ends as the model says, with duplicates, re-sends, store outages in mid-batch and projector restarts", async () => {
    const plan = fc.record({
      history: stateChanges({ keys: 8, maxLength: 120 }),
      resent: fc.array(fc.nat(119), { maxLength: 40 }),
      cuts: fc.array(fc.record({ after: fc.nat(6), applied: fc.nat(20), unknown: fc.boolean() }), { maxLength: 4 }),
      restarts: fc.array(fc.nat(119), { maxLength: 2 }),
      kind: fc.constantFrom("compacted" as const, "all" as const),
      max: fc.constantFrom(1, 7, 100),
      replicas: fc.constantFrom(1, 2),
    });
    await fc.assert(
      fc.asyncProperty(plan, async ({ history, resent, cuts, restarts, kind, max, replicas }) => {
        const stream = await makeStream(bench, kind);
        let calls = 0;
        let resets = 0;
        const more = {
          ackWaitMs: 1_000,
          batch: { max },
          apply: async (batch: Item<TestEvent>[]): Promise<Verdict[]> => {
            const cut = cuts.find((c) => c.after === calls);
            calls++;
            if (!cut) return upsert(bench.db, stream, batch);
            await upsert(bench.db, stream, batch.slice(0, cut.applied));
            // Three times the same item, with successes between: that is what poison looks like, and it would be parked. Twice is an accident.
            throw cut.unknown && ++resets <= 2 ? new Error("reset by peer") : new StoreUnavailable("cut");
          },
        };
        const running = Array.from({ length: replicas }, () => project(bench, stream, more));
        const send = (change: StateChange) =>
          publishAll(bench, [state(stream, change.key, change.version, change.value)]);
        for (const [i, change] of history.entries()) {
          await send(change);
          // A re-sent older state on a log that keeps all: the store must not care. (A compacted log is never sent an older state.)
          for (const r of resent) if (kind === "all" && r === i) await send(history[(i * 7) % (i + 1)]!);
          if (restarts.includes(i)) {
            await running.shift()?.stop();
            running.push(project(bench, stream, more));
          }
        }
        const last = (await bench.jsm.streams.info(stream)).state.last_seq;
        await until("all acknowledged", async () => (await running[0]!.projector.ackFloor())?.seq === last);
        const held = await contents(bench.db, stream);
        const alive = Object.entries(held).filter(([, { value }]) => value !== null);
        expect(Object.fromEntries(alive.map(([key, { value }]) => [key, value]))).toEqual(newestStates(history));
        for (const r of running) expect(r.projector.status().counts.dead).toBe(0);
        await Promise.all(running.map((r) => r.stop()));
        await bench.jsm.streams.delete(stream);
      }),
      { numRuns: 25, endOnFailure: true },
    );
  });
});
