import { createTestEngine, type TestEngine } from "@quartet/engines";
import { eventually } from "@quartet/service/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ClickHouse, createClickHouse } from "../src/store/client.ts";
import { createGate } from "../src/store/gate.ts";
import { migrate } from "../src/store/migrations.ts";

const busy = { status: 503, type: "urn:quartet:problem:busy" };
const tooHeavy = {
  status: 503,
  type: "urn:quartet:problem:query-too-heavy",
  headers: { "Retry-After": expect.any(String) },
};

describe("a question that is too heavy", () => {
  let engine: TestEngine;
  let clickhouse: ClickHouse;
  const mallory = () => clickhouse.questionsOf({ client: "mallory" });
  const alice = () => clickhouse.questionsOf({ client: "alice" });
  /** Takes a hundred seconds. `mark` finds it in the list of what runs. */
  const slow = (mark: number) =>
    `SELECT count() AS mark${mark} FROM numbers(1000) WHERE sleepEachRow(0.1) = 0 SETTINGS max_block_size = 1`;
  const running = (mark: number) =>
    clickhouse.read("SELECT 1 FROM system.processes WHERE query LIKE {like:String} AND query NOT LIKE '%processes%'", {
      like: `%mark${mark} %`,
    });

  beforeAll(async () => {
    engine = await createTestEngine("clickhouse");
    const url = engine.urlFor("analytics");
    const lanes = { small: 2, heavy: 1 };
    clickhouse = createClickHouse({ url, timeoutMs: 1500, lanes, maxMemoryBytes: 128 * 1024 * 1024 });
    await migrate(clickhouse);
  });
  afterAll(async () => {
    await clickhouse?.close();
    await engine?.dispose();
  });

  test("is stopped here and in the engine, and says nothing against the store", async () => {
    for (let i = 0; i < 6; i++) {
      await expect(mallory().ask(slow(1), {}, { heavy: true })).rejects.toMatchObject(tooHeavy);
    }
    expect(clickhouse.dependency.state).toBe("closed");
    await eventually(async () => (await running(1)).length === 0, { what: "the end of it in the engine" });
  });

  test("ends in the engine too when its deadline alone ends it here", async () => {
    // The engine looks at its own limit between two blocks only, and this block takes three seconds.
    const oneBlock = "SELECT sleep(3) AS mark2 FROM numbers(1)";
    for (let i = 0; i < 6; i++) await expect(mallory().ask(oneBlock, {})).rejects.toMatchObject(tooHeavy);
    expect(clickhouse.dependency.state).toBe("closed");
    await eventually(async () => (await running(2)).length === 0, { what: "the end of it in the engine" });
  });

  test("is refused for its memory, and the engine goes on", async () => {
    const greedy = "SELECT length(groupArray(number)) FROM numbers(1000000000)";
    for (const heavy of [true, false]) {
      await expect(mallory().ask(greedy, {}, { heavy })).rejects.toMatchObject(tooHeavy);
    }
    expect(await alice().ask("SELECT count() AS n FROM facts FINAL", {})).toEqual([{ n: 0 }]);
  });

  test("does not hold small questions back, nor do many of them", async () => {
    const flood = Array.from({ length: 30 }, () => mallory().ask(slow(3), {}, { heavy: true }));
    const outcomes = Promise.allSettled(flood);
    for (let i = 0; i < 20; i++) expect(await alice().ask("SELECT 1 AS one", {})).toEqual([{ one: 1 }]);
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { status: 503 } });
    }
    expect(clickhouse.dependency.state).toBe("closed");
  });

  test("gets on while small ones never end, and is answered", async () => {
    // Two at a time, which is all that run, and behind each the next.
    const asked = new AbortController();
    const again = async (client: string): Promise<number> => {
      let answered = 0;
      while (!asked.signal.aborted) {
        expect(await clickhouse.questionsOf({ client }).ask("SELECT sleep(0.3) AS s", {})).toEqual([{ s: 0 }]);
        answered++;
      }
      return answered;
    };
    const others = ["a", "b", "c"].map(again);
    await eventually(() => clickhouse.turns().used === 2 && clickhouse.turns().waiting === 1, { what: "small ones" });
    const blocks = "SELECT count() AS n FROM numbers(20) SETTINGS max_block_size = 1";
    try {
      expect(await mallory().ask(blocks, {}, { heavy: true })).toEqual([{ n: 20 }]);
    } finally {
      asked.abort();
      for (const answered of await Promise.all(others)) expect(answered).toBeGreaterThan(0);
    }
  });

  test("that waited for another in vain is told the same", async () => {
    const first = mallory().ask(slow(5), {}, { heavy: true });
    const second = alice().ask(slow(5), {}, { heavy: true });
    for (const outcome of await Promise.allSettled([first, second]))
      expect(outcome).toMatchObject({ reason: tooHeavy });
  });

  test("ends when its caller goes away, waiting or running", async () => {
    const gone = new AbortController();
    const questions = clickhouse.questionsOf({ client: "alice", gone: gone.signal });
    const asked = Promise.allSettled([1, 2].map(() => questions.ask(slow(4), {}, { heavy: true })));
    await eventually(async () => (await running(4)).length === 1 && clickhouse.turns().waiting === 1, {
      what: "one that runs and one that waits",
    });
    gone.abort();
    for (const outcome of await asked) expect(outcome).toMatchObject({ reason: { status: 499 } });
    await eventually(async () => (await running(4)).length === 0, { what: "the end of it in the engine" });
    expect(clickhouse.turns()).toMatchObject({ used: 0, waiting: 0 });
  });
});

describe("turns", () => {
  const held = () => {
    let release = () => {};
    const work = new Promise<void>((resolve) => {
      release = resolve;
    });
    return { work: () => work, release: () => release() };
  };

  test("go round by client, and one who asks much waits for itself", async () => {
    const gate = createGate({ width: 1, queue: 100, queuePerClient: 4, waitMs: 60_000 });
    const first = held();
    const order: string[] = [];
    const ask = (client: string, name: string) => gate.run({ client }, async () => void order.push(name));
    const all = [gate.run({ client: "m" }, first.work), ...[1, 2, 3, 4].map((n) => ask("m", `m${n}`))];
    await expect(ask("m", "m5")).rejects.toMatchObject(busy);
    all.push(ask("a", "a1"), ask("b", "b1"), ask("a", "a2"));
    first.release();
    await Promise.all(all);
    expect(order).toEqual(["m1", "a1", "b1", "m2", "a2", "m3", "m4"]);
    expect([gate.running, gate.waiting]).toEqual([0, 0]);
  });

  test("do not come for whoever waits too long, or too many", async () => {
    const gate = createGate({ width: 1, queue: 2, queuePerClient: 2, waitMs: 1 });
    const first = held();
    const running = gate.run({ client: "a" }, first.work);
    const late = ["b", "c", "d"].map((client) => gate.run({ client }, async () => {}));
    for (const outcome of await Promise.allSettled(late)) expect(outcome).toMatchObject({ reason: busy });
    first.release();
    await running;
    await gate.run({ client: "b" }, async () => {});
    expect([gate.running, gate.waiting]).toEqual([0, 0]);
  });
});
