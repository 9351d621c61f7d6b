import { maxBytesOf, STREAMS } from "@quartet/contracts";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { createLogger } from "@quartet/service";
import { connect, DiscardPolicy, type JetStreamManager, type NatsConnection, RetentionPolicy, StorageType } from "nats";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connectBroker } from "../src/events/nats.ts";
import { keepStreams } from "../src/events/streams.ts";
import { eventually } from "./harness.ts";

const MIB = 1024 ** 2;
let nats: TestEngine;
let admin: NatsConnection;
let jsm: JetStreamManager;

beforeAll(async () => {
  nats = await createTestEngine("nats");
  const { host, username, password } = new URL(nats.url);
  admin = await connect({ servers: host, user: username, pass: decodeURIComponent(password) });
  jsm = await admin.jetstreamManager();
});
afterAll(async () => {
  await admin?.close();
  await nats?.dispose();
});

/** Keeps the streams for a store of that size until `done`. */
async function keep(storeBytes: number, done: () => Promise<boolean>): Promise<void> {
  const stop = new AbortController();
  const broker = connectBroker(nats.urlFor("user"), createLogger("test", "silent"));
  const logger = createLogger("test", "silent");
  const running = keepStreams(broker, { replicas: 1, storeBytes }, logger, stop.signal);
  try {
    await eventually(done);
  } finally {
    stop.abort();
    await running;
    await broker.close();
  }
}

const limitOf = async (name: string) => (await jsm.streams.info(name)).config.max_bytes;

test("streams that hold more than their share get their limits in place, and lose nothing", async () => {
  const { share: _, fenced: __, maxMsgsPerSubject, maxAgeSeconds, ...users } = STREAMS.USERS;
  const common = { retention: RetentionPolicy.Limits, storage: StorageType.File, discard: DiscardPolicy.Old };
  await jsm.streams.add({ ...common, name: users.name, subjects: users.subjects, max_msgs_per_subject: 1 });
  await jsm.streams.add({ ...common, name: "FACTS", subjects: STREAMS.FACTS.subjects });
  expect([maxMsgsPerSubject, maxAgeSeconds]).toEqual([1, 0]);
  const js = admin.jetstream();
  const pad = "x".repeat(30_000);
  await Promise.all(
    Array.from({ length: 300 }, (_, i) =>
      Promise.all([js.publish(`users.${i}`, pad), js.publish(`facts.track.a.${i}`, pad)]),
    ),
  );

  // 9 MB each; the shares of a store of 20 MiB are 6 and 7 MiB.
  await keep(
    20 * MIB,
    async () => (await limitOf("FACTS").catch(() => 0)) > 0 && (await limitOf("DEAD").catch(() => 0)) > 0,
  );
  for (const name of ["USERS", "FACTS"]) {
    const { config, state } = await jsm.streams.info(name);
    expect(config.discard).toBe(DiscardPolicy.New);
    expect(state.messages).toBe(300);
  }
  // What would be lost is refused; what has to go on has got room.
  await expect(js.publish("facts.track.a.new", pad)).rejects.toMatchObject({ api_error: { err_code: 10077 } });
  expect(await limitOf("FACTS")).toBe(maxBytesOf(STREAMS.FACTS, 20 * MIB));
  await js.publish("users.7", pad);
  await js.publish("users.new", pad);
  expect((await jsm.streams.info("USERS")).state.messages).toBe(301);

  // A larger store, and a smaller one again.
  await keep(100 * MIB, async () => (await limitOf("DEAD")) === maxBytesOf(STREAMS.DEAD, 100 * MIB));
  await js.publish("facts.track.a.new", pad);
  expect(await limitOf("USERS")).toBe(maxBytesOf(STREAMS.USERS, 100 * MIB));
  await keep(60 * MIB, async () => (await limitOf("DEAD")) === maxBytesOf(STREAMS.DEAD, 60 * MIB));
  expect(await limitOf("USERS")).toBe(maxBytesOf(STREAMS.USERS, 60 * MIB));
  expect((await jsm.streams.info("FACTS")).state.messages).toBe(301);
});

test("together the limits leave room on the disk", () => {
  // A compacted stream's files may be twice as large as what it holds.
  const parts = Object.values(STREAMS).map((s) => (s.maxMsgsPerSubject === 1 ? 2 : 1) * s.share);
  expect(parts.reduce((a, b) => a + b)).toBeLessThan(1);
});
