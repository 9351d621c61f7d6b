import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { deadLetters, type Item, latestPerKey, RetainedState, type Verdict } from "../src/index.ts";
import {
  type Bench,
  contents,
  makeStream,
  project,
  publishAll,
  startBench,
  state,
  stopAll,
  type TestEvent,
  until,
  upsert,
} from "./support.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await startBench();
});
afterEach(stopAll);
afterAll(() => bench.end());

const keys = async (stream: string) => bench.db.hlen(stream);

async function letters(consumer = "shop") {
  return deadLetters(bench.nc).list({ consumer });
}

describe("projector", () => {
  it("waits for the stream, takes one event at once when idle and many under load", async () => {
    const stream = "LATER";
    const { projector, batches, log } = project(bench, stream);
    await until("waiting", () => projector.status().state === "waiting for the stream");
    await bench.jsm.streams.add({ name: stream, subjects: [`${stream}.*`] });
    await publishAll(bench, [state(stream, "a", 1)]);
    await until("first", async () => (await keys(stream)) === 1);
    await until("settled", () => batches.length > 0);
    expect(batches).toEqual([1]);
    expect(log.filter((l) => l.level === "warn")).toEqual([]);
    const many = Array.from({ length: 5_000 }, (_, i) => state(stream, `k${i}`, 1));
    await publishAll(bench, many);
    await until("all", async () => (await keys(stream)) === 5_001);
    await until("settled", () => projector.status().counts.events === 5_001);
    expect(Math.max(...batches)).toBeGreaterThan(20);
    await until("lag 0", () => projector.status().lag === 0);
    expect(projector.status()).toMatchObject({ state: "running", trouble: null, counts: { events: 5_001, dead: 0 } });
    expect(await projector.ackFloor()).toMatchObject({ seq: 5_001 });
  });

  it("drains a backlog in batches of thousands, limited by count and by bytes, and gets past a message above the limit", async () => {
    const stream = await makeStream(bench, "all");
    const small = Array.from({ length: 6_000 }, (_, i) => state(stream, `k${i}`, 1));
    await publishAll(bench, [...small, state(stream, "big", 1, "x".repeat(300_000)), state(stream, "end", 1)]);
    const { batches } = project(bench, stream, { batch: { max: 3_000, maxBytes: 200_000 } });
    await until("all", async () => (await keys(stream)) === 6_002);
    await until("settled", () => batches.reduce((sum, n) => sum + n, 0) === 6_002);
    expect(Math.max(...batches)).toBeLessThanOrEqual(3_000);
    expect(Math.max(...batches)).toBeGreaterThan(300);
  });

  it("isolates poison in the middle of 1,000 good events, and parks it once with its reason", async () => {
    const stream = await makeStream(bench, "all");
    const all = Array.from({ length: 1_000 }, (_, i) => state(stream, `k${i}`, 1, i === 417 ? "bad" : i));
    all.splice(700, 0, { subject: `${stream}.garbage`, body: "{not json" });
    await publishAll(bench, all);
    let calls = 0;
    const { projector } = project(bench, stream, {
      consumer: "poisoned",
      apply: async (batch) => {
        calls++;
        // The store refuses the whole bulk, as real ones do, without saying which item it was.
        if (batch.some((item) => item.event.value === "bad")) throw new Error("mapper_parsing_exception\nline two");
        return upsert(bench.db, stream, batch);
      },
    });
    await until("all good ones", async () => (await keys(stream)) === 999);
    await until("parked", async () => (await letters("poisoned")).length === 2);
    await until("lag 0", async () => (await projector.ackFloor())?.seq === 1_001);
    expect(calls).toBeLessThan(100);
    const [bad, garbage] = await letters("poisoned");
    expect(bad).toMatchObject({
      subject: "dead.poisoned.k417",
      reason: "Error: mapper_parsing_exception line two",
      consumer: "poisoned",
      original: { stream, subject: `${stream}.k417`, seq: 418 },
    });
    expect(JSON.parse(new TextDecoder().decode(bad!.data))).toEqual({ key: "k417", version: 1, value: "bad" });
    expect(garbage).toMatchObject({ original: { subject: `${stream}.garbage`, seq: 701 } });
    expect(garbage!.reason).toMatch(/^undecodable: SyntaxError/);
    await until("counted", () => projector.status().counts.dead === 2);
    expect(await deadLetters(bench.nc).list({ consumer: "poisoned", after: bad!.seq, limit: 1 })).toHaveLength(1);
  });

  it("parks what the caller calls poison, gives back what it wants later, counts what is stale", async () => {
    const stream = await makeStream(bench, "all");
    const seen: number[] = [];
    const { projector } = project(bench, stream, {
      consumer: "verdicts",
      apply: async (batch): Promise<Verdict[]> => {
        return batch.map(({ event, deliveries }) => {
          if (event.key === "later") {
            seen.push(deliveries);
            return deliveries < 3 ? "retry" : "applied";
          }
          return event.key === "bad" ? { poison: "says so" } : event.key === "old" ? "stale" : "applied";
        });
      },
    });
    await publishAll(
      bench,
      ["good", "bad", "later", "old"].map((key) => state(stream, key, 1)),
    );
    await until("floor", async () => (await projector.ackFloor())?.seq === 4);
    expect(seen).toEqual([1, 2, 3]);
    expect(await letters("verdicts")).toMatchObject([{ reason: "says so", subject: "dead.verdicts.bad" }]);
    expect(projector.status().counts).toMatchObject({ retried: 2, stale: 1, dead: 1 });
  });

  it("holds the stream and parks nothing when every item fails, and goes on when the bug is gone", async () => {
    const stream = await makeStream(bench, "all");
    await publishAll(
      bench,
      Array.from({ length: 300 }, (_, i) => state(stream, `k${i}`, 1)),
    );
    let broken = true;
    let attempts = 0;
    const { projector, log } = project(bench, stream, {
      consumer: "broken",
      // The store answers its probe: it is the writing that fails. Three letters are the most that this may cost.
      probe: async () => void (await bench.db.ping()),
      apply: async (batch) => {
        attempts++;
        if (broken) throw new Error("column does not exist");
        return upsert(bench.db, stream, batch);
      },
    });
    await until("tried often", () => attempts > 300);
    expect(await letters("broken")).toEqual([]);
    expect(projector.status().state).toBe("waiting for the store");
    expect(projector.status().trouble).toContain("nothing succeeds");
    broken = false;
    await until("all", async () => (await keys(stream)) === 300);
    expect(log.filter((l) => l.level === "warn")).toHaveLength(1);
    // It is said a moment after the rows are there.
    await until("said", () => log.filter((l) => l.message.startsWith("store takes events again")).length === 1);
    expect(await letters("broken")).toEqual([]);
  });

  it("holds a lone poisonous event until another one proves that the store is well", async () => {
    const stream = await makeStream(bench, "all");
    let failures = 0;
    project(bench, stream, {
      consumer: "lone",
      apply: async (batch) => {
        if (batch.some((item) => item.event.value === "bad")) {
          failures++;
          throw new Error("no");
        }
        return upsert(bench.db, stream, batch);
      },
    });
    await publishAll(bench, [state(stream, "bad", 1, "bad")]);
    await until("tried again", () => failures >= 4);
    expect(await letters("lone")).toEqual([]);
    await publishAll(bench, [state(stream, "good", 1)]);
    await until("parked", async () => (await letters("lone")).length === 1);
    expect(Object.keys(await contents(bench.db, stream))).toEqual(["good"]);
    // From now on the last good event is the witness.
    await publishAll(bench, [state(stream, "bad2", 1, "bad")]);
    await until("parked too", async () => (await letters("lone")).length === 2);
  });

  it("runs with the permissions of a service and no more", async () => {
    for (const name of ["USERS", "FACTS"] as const) {
      const limit = name === "USERS" ? { max_msgs_per_subject: 1 } : {};
      const lower = name.toLowerCase();
      await bench.jsm.streams.add({ name, subjects: [`${lower}.>`, `heartbeat.${lower}.*`], ...limit });
    }
    const claims: string[] = [];
    const { projector } = project(bench, "USERS", {
      nats: { url: bench.nats.urlFor("search"), inboxPrefix: "_INBOX_search" },
      consumer: "search",
      heartbeat: { onWatermark: (source) => void claims.push(source) },
    });
    await publishAll(bench, [
      { subject: "users.u1", body: JSON.stringify({ key: "u1", version: 1, value: 1 }) },
      { subject: "users.bad", body: "garbage" },
      { subject: "heartbeat.users.user", body: JSON.stringify({ time: new Date().toISOString() }) },
    ]);
    await until("claimed", () => claims.includes("user"));
    expect(await letters("search")).toHaveLength(1);
    await until("status", () => projector.status().deadLetters === 1 && projector.status().asOf.user !== undefined);
    expect(projector.status().stalenessSeconds).toBeLessThan(30);
  });
});

describe("dead letters", () => {
  it("retries a fact byte for byte under a new id, refuses to republish a retained state, drops", async () => {
    const facts = await makeStream(bench, "all");
    const states = await makeStream(bench, "compacted");
    let healed = false;
    const apply =
      (hash: string) =>
      async (batch: Item<TestEvent>[]): Promise<Verdict[]> =>
        healed ? upsert(bench.db, hash, batch) : batch.map(() => ({ poison: "not yet" }));
    const a = project(bench, facts, { consumer: "facts", apply: apply(facts) });
    project(bench, states, { consumer: "states", apply: apply(states) });
    const js = bench.nc.jetstream();
    await js.publish(`${facts}.k`, JSON.stringify({ key: "k", version: 1, value: "ü" }), { msgID: "fact-1" });
    await publishAll(bench, [state(states, "k", 1), state(states, "l", 1)]);
    const dead = deadLetters(bench.nc);
    await until("parked", async () => (await letters("facts")).length === 1 && (await letters("states")).length === 2);
    healed = true;

    const [fact] = await letters("facts");
    await dead.retry(fact!.seq);
    await until("applied", async () => (await keys(facts)) === 1);
    expect((await contents(bench.db, facts)).k).toEqual({ version: 1, value: "ü" });
    expect(await letters("facts")).toEqual([]);
    expect(a.projector.status().counts.dead).toBe(1);

    const [first, second] = await letters("states");
    await expect(dead.retry(first!.seq)).rejects.toBeInstanceOf(RetainedState);
    const asked: string[] = [];
    await dead.retry(first!.seq, { republish: async (letter) => void asked.push(letter.original.subject) });
    expect(asked).toEqual([`${states}.k`]);
    await dead.drop(second!.seq);
    expect(await letters("states")).toEqual([]);
    await expect(dead.drop(second!.seq)).rejects.toThrow("no dead letter");
    await expect(dead.retry(second!.seq)).rejects.toThrow("no dead letter");
    expect(await dead.get(second!.seq)).toBeUndefined();
    expect(await dead.get(-1)).toBeUndefined();
  });
});

describe("latestPerKey", () => {
  it("keeps the newest of each key, and spreads verdicts back", () => {
    const batch = [
      { key: "a", version: 2 },
      { key: "b", version: 1 },
      { key: "a", version: 3 },
      { key: "a", version: 1 },
      { key: "b", version: 1 },
    ].map((e, i) => ({ event: { ...e, value: i }, seq: i + 1, subject: "s", time: new Date(0), deliveries: 1 }));
    const folded = latestPerKey(
      batch,
      (e) => e.key,
      (e) => e.version,
    );
    expect(folded.latest.map((i) => i.event.value)).toEqual([2, 4]);
    expect(folded.spread(["applied", "retry"])).toEqual(["stale", "retry", "applied", "stale", "retry"]);
    expect(folded.spread([{ poison: "x" }, "applied"])).toEqual([
      "stale",
      "stale",
      { poison: "x" },
      "stale",
      "applied",
    ]);
  });
});
