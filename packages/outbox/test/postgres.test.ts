import { createTestEngine, type TestEngine } from "@quartet/engines";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { appendOutbox, createPostgresRelay, deleteOutboxRows, InvalidEventError } from "../src/index.ts";
import { killAll, postgresRelay } from "./support/process.ts";
import { eventually, makeWorld, natsOptions, readStream, values, type World } from "./support/world.ts";

let postgres: TestEngine;
let nats: TestEngine;
let world: World;

beforeAll(async () => {
  [postgres, nats] = await Promise.all([createTestEngine("postgres"), createTestEngine("nats")]);
});
afterAll(async () => {
  await postgres?.dispose();
  await nats?.dispose();
});
afterEach(async () => {
  await killAll();
  await world?.dispose();
});

/** Counts 1, 2, 3... of one key under its row lock, as a service would. Returns how many committed. */
async function countUp(world: World, key: string, until: () => boolean): Promise<number> {
  let count = 0;
  while (!until()) {
    try {
      const client = await world.pool.connect();
      try {
        await client.query("BEGIN");
        const row = await client.query("UPDATE counter SET n = n + 1 WHERE key = $1 RETURNING n", [key]);
        const n = row.rows[0].n as number;
        await appendOutbox(client, [world.stateOf(key, `${n}`), world.fact(key, `${n}`)]);
        await client.query("COMMIT");
        count = n;
        client.release();
      } catch (error) {
        client.release(true);
        throw error;
      }
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  // A commit whose answer was lost may have happened: the database knows.
  const truth = await eventually("the count", () => world.pool.query("SELECT n FROM counter WHERE key = $1", [key]));
  return Math.max(count, truth.rows[0].n);
}

async function makeCounters(world: World, keys: string[]): Promise<void> {
  await world.pool.query("CREATE TABLE counter (key text PRIMARY KEY, n int NOT NULL DEFAULT 0)");
  for (const key of keys) await world.pool.query("INSERT INTO counter (key) VALUES ($1)", [key]);
}

/** Every fact of a key is there, and when repeats are passed over they come in order; the last state is the newest. */
async function expectComplete(world: World, natsUrl: string, counts: Record<string, number>): Promise<void> {
  await eventually("the newest states", async () => {
    const state = await readStream(natsUrl, world.state);
    return Object.entries(counts).every(([key, n]) =>
      state.some((m) => m.subject.endsWith(`.${key}`) && values([m])[0] === `${n}`),
    );
  });
  const facts = await readStream(natsUrl, world.facts);
  for (const [key, n] of Object.entries(counts)) {
    const seen = values(facts.filter((m) => m.subject.endsWith(`.${key}`))).map(Number);
    const first = seen.filter((value, i) => seen.indexOf(value) === i);
    expect(first).toEqual(Array.from({ length: n }, (_, i) => i + 1));
  }
}

test("what commits is published in commit order, what does not is not", async () => {
  world = await makeWorld(postgres, nats);
  await world.commit(world.fact("a", "before the first start"));
  const abort = new AbortController();
  const beats: string[] = [];
  const relay = createPostgresRelay({
    connectionString: world.databaseUrl,
    slot: world.slot,
    publication: "outbox_pub",
    nats: natsOptions(nats.url),
    streams: { ...world.streams, [world.facts]: { fence: false, headers: { "X-Kind": "fact" } } },
    checkpointMs: 100,
    heartbeat: {
      everyMs: 100,
      build(at) {
        beats.push(at);
        return [{ ...world.fact("beat", at), msgId: undefined }];
      },
    },
  });
  const running = relay.run(abort.signal);
  // What was there at first comes from the table; what is written from here on by the WAL.
  await eventually("active", () => relay.status().active && Object.keys(relay.status().owed).length === 0);

  // An older transaction that commits later is published later.
  const slow = await world.pool.connect();
  await slow.query("BEGIN");
  await appendOutbox(slow, [world.fact("a", "slow 1"), world.fact("a", "slow 2")]);
  await world.commit(world.fact("a", "quick"));
  const aborted = await world.pool.connect();
  await aborted.query("BEGIN");
  await appendOutbox(aborted, [world.fact("a", "aborted")]);
  await aborted.query("ROLLBACK");
  aborted.release();
  await slow.query("COMMIT");
  slow.release();
  const big = "ü".repeat(450_000);
  await world.commit(
    { ...world.fact("a", big), msgId: undefined },
    { ...world.stateOf("a", 'quote " \\ \n tab\t 😀'), msgId: "ignored" },
  );

  const state = await eventually("the state", async () => {
    const messages = await readStream(nats.url, world.state);
    return messages.length > 0 && messages;
  });
  expect(values(state)).toEqual(['quote " \\ \n tab\t 😀']);
  expect(state[0]!.msgId).toBeUndefined();
  const facts = (await readStream(nats.url, world.facts)).filter((m) => m.subject.endsWith(".a"));
  expect(values(facts)).toEqual(["before the first start", "quick", "slow 1", "slow 2", big]);
  expect(facts[1]!.headers).toMatchObject({
    "Content-Type": "application/json",
    "X-Kind": "fact",
    "Nats-Msg-Id": "a:quick",
  });

  // Heartbeats come through the WAL, in order, without rows.
  const heard = await eventually("heartbeats", async () => {
    const messages = (await readStream(nats.url, world.facts)).filter((m) => m.subject.endsWith(".beat"));
    return messages.length >= 3 && values(messages);
  });
  expect(heard).toEqual([...heard].sort());
  expect(beats).toEqual(expect.arrayContaining(heard));
  expect((await world.pool.query("SELECT FROM outbox WHERE key = 'beat'")).rowCount).toBe(0);

  const done = await eventually("nothing left to do", () => {
    const status = relay.status();
    return status.lagBytes !== null && status.lagBytes < 10_000 && status.unacked === 0 && status;
  });
  expect(done).toMatchObject({ active: true, slot: world.slot, lastError: null, restarts: 0, walStatus: "reserved" });
  abort.abort();
  await running;
  expect(relay.status().active).toBe(false);

  // A message of nearly a megabyte can be the one a checkpoint is compared with.
  await world.commit({ ...world.fact("a", "y".repeat(900_000)), msgId: "y" });
  const next = postgresRelay(world, nats.url);
  await eventually("it", async () => (await next.status()).published > 0);
  await next.end("SIGTERM");
  const again = postgresRelay(world, nats.url);
  await eventually("active again", async () => (await again.status()).active);
  expect((await again.status()).lastError).toBeNull();
});

test("an event that JetStream would refuse is refused at the door, one that got in stops nothing if somebody takes it", async () => {
  world = await makeWorld(postgres, nats);
  const good = world.fact("a", "1");
  for (const bad of [
    { ...good, subject: "a b" },
    { ...good, subject: "a..b" },
    { ...good, subject: "a.*" },
    { ...good, subject: "a.b\r\nPUB x 0" },
    { ...good, msgId: "ü" },
    { ...good, headers: { "X-A": "1\r\nX-B: 2" } },
    { ...good, payload: "x".repeat(1_000_001) },
  ]) {
    await expect(world.commit(good, bad)).rejects.toThrow(InvalidEventError);
  }
  const taken: string[] = [];
  const abort = new AbortController();
  const relay = createPostgresRelay({
    connectionString: world.databaseUrl,
    slot: world.slot,
    publication: "outbox_pub",
    nats: natsOptions(nats.url),
    streams: world.streams,
    onPoison: async (event) => void taken.push(event.id),
  });
  const running = relay.run(abort.signal);
  await eventually("active", () => relay.status().active);
  const insert = "INSERT INTO outbox (event_id, stream, subject, key, payload) VALUES ($1, $2, $3, 'a', '{}')";
  await world.pool.query(insert, ["odd stream", "NOWHERE", "a"]);
  await world.pool.query(insert, ["odd subject", world.facts, `state${world.n}.a`]);
  await world.commit(good);
  await eventually("the good one", async () => (await readStream(nats.url, world.facts)).length === 1);
  expect(taken).toEqual(["odd stream", "odd subject"]);
  abort.abort();
  await running;
});

test("killing the relay, NATS and PostgreSQL in turn while writers write loses and reorders nothing", async () => {
  world = await makeWorld(postgres, nats);
  const keys = ["k1", "k2", "k3", "k4"];
  await makeCounters(world, keys);
  let over = false;
  const writers = keys.map((key) => countUp(world, key, () => over));
  let relay = postgresRelay(world, nats.url);
  const progress = async (more = 200) => {
    const before = (await relay.status()).published;
    await eventually("progress", async () => (await relay.status()).published >= before + more);
  };
  const caughtUp = () =>
    eventually("caught up", async () => {
      const { active, lagSeconds } = await relay.status();
      return active && lagSeconds !== null && lagSeconds < 0.5;
    });
  await progress();
  for (let i = 0; i < 2; i++) {
    await relay.kill();
    relay = postgresRelay(world, nats.url);
    await progress();
  }
  await caughtUp();
  await nats.kill();
  await new Promise((resolve) => setTimeout(resolve, 300));
  await nats.start();
  await progress();
  await caughtUp();
  await postgres.kill();
  await postgres.start();
  await progress();
  await relay.kill();
  await nats.kill();
  await postgres.kill();
  relay = postgresRelay(world, nats.url);
  await postgres.start();
  await nats.start();
  await progress();
  over = true;
  const counts = Object.fromEntries(await Promise.all(writers.map(async (w, i) => [keys[i], await w])));
  await expectComplete(world, nats.url, counts);
});

test("nothing is confirmed before it is acknowledged", async () => {
  world = await makeWorld(postgres, nats);
  const relay = postgresRelay(world, nats.url, { ackTimeoutMs: 1_000 });
  await world.commit(world.fact("a", "0"));
  await eventually("relayed", async () => (await readStream(nats.url, world.facts)).length === 1);
  nats.freeze();
  const before = await world.pool.query("SELECT pg_current_wal_lsn() AS lsn");
  for (let i = 1; i <= 300; i++) await world.commit(world.fact("a", `${i}`));
  // Long enough for an ack timeout and more than one attempt.
  await eventually("attempts", async () => (await relay.status()).restarts >= 2);
  const slot = await world.pool.query(
    "SELECT confirmed_flush_lsn <= $1::pg_lsn AS held FROM pg_replication_slots WHERE slot_name = $2",
    [before.rows[0].lsn, world.slot],
  );
  expect(slot.rows[0].held).toBe(true);
  nats.thaw();
  await eventually("all", async () => new Set(values(await readStream(nats.url, world.facts))).size === 301);
  await eventually("confirmed", async () => {
    const now = await world.pool.query(
      "SELECT confirmed_flush_lsn > $1::pg_lsn AS moved FROM pg_replication_slots WHERE slot_name = $2",
      [before.rows[0].lsn, world.slot],
    );
    return now.rows[0].moved;
  });
});

test.each([false, true])(
  "a relay that dies with NATS loses nothing, unless it confirms before the ack: %s",
  async (mutant) => {
    world = await makeWorld(postgres, nats);
    let relay = postgresRelay(world, nats.url, { ackTimeoutMs: 60_000, unsafe: { confirmBeforeAck: mutant } });
    await world.commit(world.fact("a", "1"));
    await eventually("a checkpoint", async () => {
      const sql = "SELECT FROM outbox_checkpoint WHERE sequence = 1 AND NOT EXISTS (SELECT FROM outbox_owed)";
      return (await world.pool.query(sql)).rowCount;
    });
    nats.freeze();
    for (let i = 2; i <= 20; i++) await world.commit(world.fact("a", `${i}`));
    await eventually("published", async () => (await relay.status()).unacked === 19);
    // The mutant confirms with its next status update, within a second.
    if (mutant) {
      await eventually("confirmed", async () => {
        const slot = await world.pool.query(
          "SELECT confirmed_flush_lsn >= (SELECT lsn FROM outbox_checkpoint ORDER BY at DESC LIMIT 1) + 1000 AS moved FROM pg_replication_slots WHERE slot_name = $1",
          [world.slot],
        );
        return slot.rows[0].moved;
      });
    }
    await nats.kill();
    await relay.kill();
    await nats.start();
    relay = postgresRelay(world, nats.url);
    await eventually("active", async () => (await relay.status()).active);
    await world.commit(world.fact("a", "21"));
    await eventually("21", async () => values(await readStream(nats.url, world.facts)).includes("21"));
    const seen = new Set(values(await readStream(nats.url, world.facts)));
    if (mutant) expect(seen.size).toBeLessThan(21);
    else expect(seen.size).toBe(21);
  },
);

test("a second replica waits and takes over", async () => {
  world = await makeWorld(postgres, nats);
  const first = postgresRelay(world, nats.url);
  await eventually("the first is active", async () => (await first.status()).active);
  const second = postgresRelay(world, nats.url);
  await world.commit(world.fact("a", "1"));
  await eventually("relayed", async () => (await readStream(nats.url, world.facts)).length === 1);
  const waiting = await eventually("the second knows the lag", async () => {
    const status = await second.status();
    return status.lagBytes !== null && status;
  });
  expect(waiting).toMatchObject({ active: false, restarts: 0, lastError: null });
  await first.kill();
  await world.commit(world.fact("a", "2"));
  await eventually("relayed", async () => values(await readStream(nats.url, world.facts)).includes("2"));
  expect(await second.status()).toMatchObject({ active: true, restarts: 0 });
});

test("erasure takes the rows of one key and leaves what it is told to", async () => {
  world = await makeWorld(postgres, nats);
  const last = world.stateOf("a", "gone");
  await world.commit(world.stateOf("a", "1"), world.fact("a", "1"), world.stateOf("b", "1"), last);
  expect(await deleteOutboxRows(world.pool, "a", { keep: [last.id] })).toBe(2);
  const rows = await world.pool.query("SELECT key, event_id FROM outbox ORDER BY seq");
  expect(rows.rows.map((row) => row.key)).toEqual(["b", "a"]);
});
