import { randomUUID } from "node:crypto";
import { cpSync, rmSync } from "node:fs";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { Redis } from "ioredis";
import { DiscardPolicy } from "nats";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import {
  appendRedisOutbox,
  countRedisOutboxEntries,
  createRedisRelay,
  deleteRedisOutboxEntries,
  OUTBOX_LUA,
  type OutboxEvent,
  outboxArguments,
  type StreamLoss,
} from "../src/index.ts";
import { killAll, redisRelay } from "./support/process.ts";
import { eventually, lastSequence, makeStream, natsOptions, readStream, values, withNats } from "./support/world.ts";

let store: TestEngine;
let nats: TestEngine;
let redis: Redis;
let prefix: string;
let stream: string;
let n = 0;

beforeAll(async () => {
  [store, nats] = await Promise.all([createTestEngine("redis"), createTestEngine("nats")]);
});
afterAll(async () => {
  await store?.dispose();
  await nats?.dispose();
});
beforeEach(async () => {
  n++;
  prefix = `{t${n}}`;
  stream = `EVENTS${n}`;
  redis = new Redis(store.urlFor("session"), { maxRetriesPerRequest: null });
  redis.on("error", () => {});
  await makeStream(nats.url, stream, [`events${n}.*`]);
});
afterEach(async () => {
  await killAll();
  redis.disconnect();
});

function fact(key: string, value: string, options: Partial<OutboxEvent> = {}): OutboxEvent {
  const payload = JSON.stringify({ value });
  return { id: randomUUID(), stream, subject: `events${n}.${key}`, msgId: `${key}:${value}`, key, payload, ...options };
}

const append = (...events: OutboxEvent[]) => appendRedisOutbox(redis, events, prefix);
const facts = async (key = "a") =>
  values((await readStream(nats.url, stream)).filter((m) => m.subject.endsWith(`.${key}`)));
const relayOptions = () => ({
  url: store.urlFor("session"),
  prefix,
  nats: natsOptions(nats.url),
  streams: { [stream]: { fence: false } },
  standbyPollMs: 50,
});
const start = (options: object = {}) => redisRelay({ ...relayOptions(), ...options });
const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`);
const cursor = () => redis.hget(`${prefix}:cursor`, "entry");

/** First appearances, in order. */
const first = (seen: string[]) => seen.filter((value, i) => seen.indexOf(value) === i);

test("events of a MULTI or a script are published in order, with heartbeats behind what came before them", async () => {
  await redis
    .multi()
    .set(`${prefix}:a`, 1)
    .eval(OUTBOX_SCRIPT, 0, prefix, ...outboxArguments([fact("a", "1")]))
    .exec();
  const chain = appendRedisOutbox(
    redis.multi(),
    [fact("a", "2"), fact("a", "3", { headers: { "X-Kind": "fact" } })],
    prefix,
  );
  await chain.exec();
  expect(() => outboxArguments([fact("a", "4", { subject: "a b" })])).toThrow("subject");
  const abort = new AbortController();
  const relay = createRedisRelay({
    ...relayOptions(),
    checkpointMs: 100,
    heartbeat: {
      everyMs: 100,
      build: (at) => [fact("beat", at, { msgId: undefined })],
    },
  });
  const running = relay.run(abort.signal);
  await eventually("three", async () => (await facts()).length === 3);
  expect(await facts()).toEqual(["1", "2", "3"]);
  const messages = await readStream(nats.url, stream);
  expect(messages[2]!.headers).toMatchObject({ "X-Kind": "fact", "Nats-Msg-Id": "a:3" });
  const beats = await eventually("heartbeats", async () => {
    const seen = await facts("beat");
    return seen.length >= 3 && seen;
  });
  expect(beats).toEqual([...beats].sort());
  await eventually("no lag", () => relay.status().lagEntries === 0);
  expect(relay.status()).toMatchObject({ active: true, restarts: 0, lastError: null, unacked: 0 });
  abort.abort();
  await running;
  expect(await redis.exists(`${prefix}:lease`)).toBe(0);
});

const OUTBOX_SCRIPT = `${OUTBOX_LUA}return outbox_append_all(ARGV[1], ARGV, 2)`;

test("killing the relay, NATS and Redis in turn while a writer writes loses and reorders nothing", async () => {
  let over = false;
  let count = 0;
  const writer = (async () => {
    while (!over) {
      // The same msgId if the answer was lost: then it may be in twice, and JetStream removes one.
      await append(fact("a", `${count + 1}`)).then(
        () => count++,
        () => {},
      );
    }
  })();
  let relay = start();
  const progress = async () => {
    const before = (await relay.status()).published;
    await eventually("progress", async () => (await relay.status()).published > before + 100);
  };
  await progress();
  for (let i = 0; i < 2; i++) {
    await relay.kill();
    relay = start();
    await progress();
  }
  await nats.kill();
  await nats.start();
  await progress();
  await store.kill();
  await store.start();
  await progress();
  over = true;
  await writer;
  await eventually("all", async () => (await facts()).includes(`${count}`));
  expect(first(await facts())).toEqual(numbers(1, count));
});

test("the cursor moves only after acks, and a deleted cursor means sending again", async () => {
  let relay = start({ ackTimeoutMs: 1_000 });
  await append(fact("a", "1"));
  await eventually("relayed", async () => (await cursor()) !== null);
  const before = await cursor();
  nats.freeze();
  for (const value of numbers(2, 50)) await append(fact("a", value));
  await eventually("attempts", async () => (await relay.status()).restarts >= 2);
  expect(await cursor()).toBe(before);
  const lag = await eventually("the lag is known", async () => {
    const status = await relay.status();
    return status.lagEntries === 49 && status;
  });
  expect(lag.lagSeconds).toBeGreaterThan(0);
  nats.thaw();
  await eventually("all", async () => (await facts()).length === 50);
  await eventually("the cursor moves", async () => (await cursor()) !== before);
  await relay.kill();

  await redis.del(`${prefix}:cursor`);
  relay = start();
  await append(fact("a", "51"));
  await eventually("51", async () => (await facts()).includes("51"));
  expect(await facts()).toEqual(numbers(1, 51));
  await relay.kill();
  for (const key of await redis
    .keys(`${prefix}:c*`)
    .catch(() => [`${prefix}:cursor`, `${prefix}:checkpoints:${stream}`])) {
    await redis.del(key);
  }
  relay = start();
  await eventually("everything again, removed by Nats-Msg-Id", async () => (await relay.status()).duplicates >= 51);
});

test("a frozen relay loses its lease; thawed, it writes nothing to Redis and becomes the standby", async () => {
  const old = start({ ackTimeoutMs: 60_000 });
  await append(fact("a", "1"));
  await eventually("relayed", async () => (await facts()).includes("1"));
  // Entries that the old relay has read and could not get rid of.
  nats.freeze();
  for (const value of numbers(2, 40)) await append(fact("a", value));
  await eventually("published into the void", async () => (await old.status()).unacked >= 39);
  old.freeze();
  nats.thaw();
  const fresh = start({ heartbeatSubject: [[stream, `events${n}.beat`]] });
  await eventually("the new one has the lease", async () => (await fresh.status()).active);
  await append(fact("a", "41"));
  await eventually("41", async () => (await facts()).includes("41"));
  old.thaw();
  await eventually("the old one has given up", async () => !(await old.status()).active);
  await append(fact("a", "42"));
  await eventually("42", async () => (await facts()).includes("42"));
  expect(first(await facts())).toEqual(numbers(1, 42));
  // Everything that was added before a heartbeat stands before it in the stream.
  const all = await readStream(nats.url, stream);
  const beat = all.findIndex((m) => m.subject.endsWith(".beat"));
  expect(all.slice(0, beat).filter((m) => m.subject.endsWith(".a")).length).toBeGreaterThanOrEqual(40);
  expect(["LeaseLostError", "BrokerError"]).toContain((await old.status()).lastError?.name);
  await fresh.kill();
  await append(fact("a", "43"));
  await eventually("the old one takes over", async () => (await facts()).includes("43"));
});

test("a stream that comes back older than it was, or empty, is filled again from what is retained", async () => {
  const losses: StreamLoss[] = [];
  const abort = new AbortController();
  const relay = createRedisRelay({
    ...relayOptions(),
    checkpointMs: 100,
    maxBackoffMs: 200,
    onStreamLost: async (loss) => void losses.push(loss),
  });
  const running = relay.run(abort.signal);
  const settle = async (...wanted: string[]) => {
    for (const value of wanted) await append(fact("a", value));
    await eventually("relayed", async () => (await facts()).includes(wanted.at(-1)!));
    const [last] = (await redis.xrevrange(`${prefix}:events`, "+", "-", "COUNT", 1))[0]!;
    await eventually("checkpoint", async () => (await cursor()) === last);
  };
  await settle("1", "2", "3");
  await nats.stop();
  const copy = `${nats.dir}.copy`;
  cpSync(nats.dir, copy, { recursive: true });
  await nats.start();
  await settle("4", "5");
  await settle("6");
  await nats.kill();
  rmSync(nats.dir, { recursive: true });
  cpSync(copy, nats.dir, { recursive: true });
  rmSync(copy, { recursive: true });
  await append(fact("a", "7"));
  await nats.start();
  await eventually("all", async () => (await facts()).includes("7"));
  expect(first(await facts())).toEqual(numbers(1, 7));
  expect(relay.status().resent).toBe(3);
  expect(losses).toEqual([]);

  await settle("8");
  await withNats(nats.url, async (_, jsm) => void (await jsm.streams.delete(stream)));
  await makeStream(nats.url, stream, [`events${n}.*`]);
  await eventually("all again", async () => (await lastSequence(nats.url, stream)) === 8);
  expect(await facts()).toEqual(numbers(1, 8));
  await eventually("told", () => losses.length === 1);
  expect(losses[0]).toMatchObject({ stream, complete: true });
  await settle("9");
  abort.abort();
  await running;
});

test("a full stream is owed its events, no heartbeat says otherwise, and all follow in order when there is room", async () => {
  const limit = (bytes: number) =>
    withNats(nats.url, async (_, jsm) => {
      const { config } = await jsm.streams.info(stream);
      await jsm.streams.update(stream, { ...config, discard: DiscardPolicy.New, max_bytes: bytes });
    });
  const relay = start({ maxBackoffMs: 200, checkpointMs: 100, heartbeatSubject: [[stream, `events${n}.beat`]] });
  await append(fact("a", "1"));
  await eventually("relayed", async () => (await facts()).length === 1);
  await eventually("heartbeats", async () => (await facts("beat")).length > 2);
  // What fits no more is larger than a heartbeat, for which there would be room.
  await limit((await withNats(nats.url, async (_, jsm) => (await jsm.streams.info(stream)).state.bytes)) + 5_000);
  const pad = "x".repeat(10_000);
  for (let i = 2; i <= 20; i++) await append(fact("a", `${i}`, { payload: JSON.stringify({ value: `${i}`, pad }) }));
  const status = await eventually("it is owed", async () => {
    const { owed } = await relay.status();
    return owed[stream] && owed;
  });
  expect(status[stream]!.reason).toContain("maximum bytes exceeded");
  await eventually("many attempts", async () => (await relay.status()).restarts >= 5);
  const held = (await readStream(nats.url, stream)).length;
  await eventually("many more", async () => (await relay.status()).restarts >= 10);
  expect((await readStream(nats.url, stream)).length).toBe(held);
  await limit(-1);
  await eventually("all", async () => (await facts()).includes("20"));
  expect(first(await facts())).toEqual(numbers(1, 20));
  await eventually("nothing is owed", async () => Object.keys((await relay.status()).owed).length === 0);
  await eventually("heartbeats", async () => (await readStream(nats.url, stream)).at(-1)!.subject.endsWith(".beat"));
  expect((await readStream(nats.url, stream)).at(-1)!.headers["Outbox-Heartbeat"]).toBeUndefined();
});

test("retention removes only what is relayed; erasure finds the entries of one key and says what is still to come", async () => {
  for (const value of numbers(1, 600)) await append(fact("a", value));
  await append(fact("b", "1"));
  expect(await deleteRedisOutboxEntries(redis, "b", { prefix })).toEqual({ deleted: 0, pending: 1 });
  expect(await countRedisOutboxEntries(redis, "b", { prefix })).toBe(1);
  nats.freeze();
  let relay = start({ retentionMs: 0, maxEntries: 10 });
  await eventually("attempts", async () => (await relay.status()).restarts >= 1);
  expect(await redis.xlen(`${prefix}:events`)).toBe(601);
  nats.thaw();
  await eventually("relayed and removed", async () => (await redis.xlen(`${prefix}:events`)) === 0);
  expect((await facts()).length).toBe(600);
  expect(await redis.zcard(`${prefix}:key:a`)).toBe(0);
  await relay.kill();

  relay = start();
  const last = fact("b", "3");
  await append(fact("b", "2"), fact("c", "1"), last);
  await eventually("relayed", async () => (await countRedisOutboxEntries(redis, "b", { prefix })) === 0);
  expect(await redis.zcard(`${prefix}:key:b`), "counting deletes nothing").toBe(2);
  await eventually(
    "erased",
    async () => (await deleteRedisOutboxEntries(redis, "b", { prefix, keep: [last.id] })).pending === 0,
  );
  const left = (await redis.xrange(`${prefix}:events`, "-", "+")).map(([, fields]) => fields[1]);
  expect(left).toHaveLength(2);
  expect(left).toContain(last.id);
  expect(await redis.zcard(`${prefix}:key:b`)).toBe(1);
});
