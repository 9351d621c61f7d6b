import { createTestEngine, type TestEngine } from "@quartet/engines";
import { DiscardPolicy } from "nats";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { appendOutbox } from "../src/index.ts";
import { killAll, postgresRelay } from "./support/process.ts";
import {
  eventually,
  lastSequence,
  makeStream,
  makeWorld,
  readStream,
  values,
  type World,
  withNats,
} from "./support/world.ts";

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

const factsOf = async (key: string) =>
  values((await readStream(nats.url, world.facts)).filter((m) => m.subject.endsWith(`.${key}`)));
const firsts = (seen: string[]) => seen.filter((value, i) => seen.indexOf(value) === i);
const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`);
const newestState = async (key: string) =>
  values((await readStream(nats.url, world.state)).filter((m) => m.subject.endsWith(`.${key}`)))[0];

async function limit(stream: string, bytes: number): Promise<void> {
  await withNats(nats.url, async (_, jsm) => {
    const { config } = await jsm.streams.info(stream);
    await jsm.streams.update(stream, { ...config, discard: DiscardPolicy.New, max_bytes: bytes });
  });
}

/** One state and one fact of a key, under its row lock. */
async function write(key: string, n: number): Promise<void> {
  await world.commit(world.stateOf(key, `${n}`), world.fact(key, `${n}`));
}

const owed = async () => (await world.pool.query("SELECT stream FROM outbox_owed")).rows.map((row) => row.stream);

test("a full stream stops only itself: states go on, the WAL is freed, and all facts arrive in order when there is room", async () => {
  world = await makeWorld(postgres, nats);
  let relay = postgresRelay(world, nats.url, {
    checkpointMs: 100,
    heartbeatSubject: [[world.facts, `facts${world.n}.beat`]],
  });
  await write("a", 1);
  await eventually("relayed", async () => (await factsOf("a")).length === 1);
  await limit(world.facts, 4_000);
  for (let i = 2; i <= 100; i++) await write("a", i);
  await eventually("the newest state", async () => (await newestState("a")) === "100");
  await eventually("what is owed is on record, and nothing else", async () => `${await owed()}` === world.facts);
  const { rows } = await world.pool.query("SELECT pg_current_wal_insert_lsn()::text AS lsn");
  await write("a", 101);
  await eventually("the WAL is confirmed all the same", async () => {
    const sql = "SELECT confirmed_flush_lsn > $2 AS moved FROM pg_replication_slots WHERE slot_name = $1";
    return (await world.pool.query(sql, [world.slot, rows[0].lsn])).rows[0].moved;
  });
  const full = await factsOf("a");
  expect(full.length).toBeLessThan(60);
  expect(full).toEqual(numbers(1, full.length));
  const status = await relay.status();
  expect(status).toMatchObject({ active: true, restarts: 0, lastError: null });
  expect(status.owed[world.facts]!.reason).toContain("maximum bytes exceeded");

  // No heartbeat says that the stream has what it lacks.
  const heartbeats = (await factsOf("beat")).length;
  await eventually("a state written a while later", async () => {
    await write("b", 1);
    return (await newestState("b")) === "1" && (await relay.status()).owed[world.facts]!.seconds >= 1;
  });
  expect((await factsOf("beat")).length).toBe(heartbeats);

  // Killed meanwhile, the next one knows what is owed; so does the one after a little room was made and used up.
  await relay.kill();
  relay = postgresRelay(world, nats.url, {
    checkpointMs: 100,
    heartbeatSubject: [[world.facts, `facts${world.n}.beat`]],
  });
  await write("a", 102);
  await eventually("the newest state", async () => (await newestState("a")) === "102");
  await limit(world.facts, 6_000);
  await eventually("a few more", async () => (await factsOf("a")).length > full.length + 2);
  expect(firsts(await factsOf("a"))).toEqual(numbers(1, (await factsOf("a")).length));
  await relay.kill();
  relay = postgresRelay(world, nats.url, {
    checkpointMs: 100,
    heartbeatSubject: [[world.facts, `facts${world.n}.beat`]],
  });

  // Room, while writers write.
  let n = 102;
  let writing = true;
  const writer = (async () => {
    while (writing) await write("a", ++n);
  })();
  await limit(world.facts, -1);
  await eventually("the debt is settled", async () => (await owed()).length === 0);
  writing = false;
  await writer;
  await eventually("all facts", async () => (await factsOf("a")).includes(`${n}`));
  expect(firsts(await factsOf("a"))).toEqual(numbers(1, n));
  const beats = (await factsOf("beat")).length;
  await eventually("heartbeats again", async () => (await factsOf("beat")).length > beats);
  expect((await relay.status()).owed).toEqual({});

  // All is well now: a restart sends nothing again.
  await relay.end("SIGTERM");
  relay = postgresRelay(world, nats.url);
  await write("a", ++n);
  await eventually("relayed", async () => (await factsOf("a")).includes(`${n}`));
  expect(await relay.status()).toMatchObject({ resent: 0, lastError: null });
});

test("a stream that is missing stops only itself, and gets everything when it is made", async () => {
  world = await makeWorld(postgres, nats);
  await withNats(nats.url, async (_, jsm) => void (await jsm.streams.delete(world.facts)));
  const relay = postgresRelay(world, nats.url);
  for (let i = 1; i <= 5; i++) await write("a", i);
  await eventually("states", async () => (await newestState("a")) === "5");
  await makeStream(nats.url, world.facts, [`facts${world.n}.*`]);
  await eventually("facts", async () => (await factsOf("a")).length === 5);
  expect(await factsOf("a")).toEqual(numbers(1, 5));
  await eventually("settled", async () => (await owed()).length === 0);
  expect((await relay.status()).restarts).toBe(0);
});

test("a fenced stream that refused goes on from where it really ends", async () => {
  world = await makeWorld(postgres, nats);
  const relay = postgresRelay(world, nats.url);
  await write("a", 1);
  await eventually("relayed", async () => (await newestState("a")) === "1");
  await limit(world.state, 500);
  for (let i = 2; i <= 30; i++) await write(`k${i}`, i);
  await eventually("facts go on", async () => (await factsOf("k30")).length === 1);
  await eventually("it is on record", async () => (await owed()).includes(world.state));
  await limit(world.state, -1);
  await eventually("all states", async () => (await readStream(nats.url, world.state)).length === 30);
  await eventually("settled", async () => (await owed()).length === 0);
  expect(await relay.status()).toMatchObject({ restarts: 0, lastError: null });
});

test("a slot that cannot be made for a transaction: the table is relayed meanwhile, and it is said who is in the way", async () => {
  world = await makeWorld(postgres, nats);
  let relay = postgresRelay(world, nats.url, {
    checkpointMs: 100,
    heartbeatSubject: [[world.facts, `facts${world.n}.beat`]],
  });
  await write("a", 1);
  await eventually("relayed", async () => (await factsOf("a")).length === 1);
  await eventually(
    "a checkpoint",
    async () =>
      (await world.pool.query("SELECT FROM outbox_checkpoint WHERE sequence >= 1 AND stream = $1", [world.facts]))
        .rowCount,
  );
  // Somebody's transaction holds a number, and rows of a key nobody else writes.
  const blocker = await world.pool.connect();
  await blocker.query("SET application_name = 'a report'");
  await blocker.query("BEGIN");
  await appendOutbox(blocker, [world.fact("slow", "1"), world.stateOf("slow", "1")]);
  await relay.kill();
  await eventually("the slot is free", () =>
    world.pool.query("SELECT pg_drop_replication_slot($1)", [world.slot]).then(() => true),
  );
  await write("a", 2);
  relay = postgresRelay(world, nats.url, {
    checkpointMs: 100,
    heartbeatSubject: [[world.facts, `facts${world.n}.beat`]],
  });
  const waits = await eventually("who is in the way", async () => {
    const { slotWaitsFor } = await relay.status();
    return slotWaitsFor?.pid && slotWaitsFor;
  });
  const standby = postgresRelay(world, nats.url);
  expect(waits).toMatchObject({ application: "a report", state: "idle in transaction", query: "INSERT" });
  expect(relay.log).toContain("waits for a transaction to end");
  for (let i = 3; i <= 30; i++) await write("a", i);
  await eventually("facts while the transaction is open", async () => (await factsOf("a")).length === 30);
  expect(await factsOf("a")).toEqual(numbers(1, 30));
  await eventually("states too", async () => (await newestState("a")) === "30");
  const beats = (await factsOf("beat")).length;
  await eventually("heartbeats too", async () => (await factsOf("beat")).length > beats);
  expect(await standby.status()).toMatchObject({ active: false, lastError: null });

  // Killed meanwhile, the next one goes on, though the server still waits for the old one's slot.
  await relay.kill();
  await write("a", 31);
  await eventually("the standby relays", async () => (await factsOf("a")).includes("31"));
  // Frozen too, and the one that thaws becomes the standby.
  const third = postgresRelay(world, nats.url, { checkpointMs: 100 });
  await eventually("it waits", async () => !(await third.status()).active);
  standby.freeze();
  await write("a", 32);
  await eventually("the third relays", async () => (await factsOf("a")).includes("32"));
  standby.thaw();
  await eventually("the thawed one gave up", async () => {
    const { active, restarts } = await standby.status();
    return !active && restarts > 0;
  });
  expect(await third.status()).toMatchObject({ active: true, restarts: 0, slotWaitsFor: { application: "a report" } });
  let n = 32;
  let writing = true;
  const writer = (async () => {
    while (writing) await write("a", ++n);
  })();
  await blocker.query("COMMIT");
  blocker.release(true);
  await eventually("the debt is settled", async () => (await owed()).length === 0);
  writing = false;
  await writer;
  await eventually("all facts", async () => (await factsOf("a")).includes(`${n}`));
  expect(firsts(await factsOf("a"))).toEqual(numbers(1, n));
  expect(await factsOf("slow")).toEqual(["1"]);
  expect(await newestState("slow")).toBe("1");
  expect(await newestState("a")).toBe(`${n}`);
  expect((await third.status()).slotWaitsFor).toBeNull();
  // By the WAL again.
  const before = (await third.status()).resent;
  await write("a", ++n);
  await eventually("relayed", async () => (await factsOf("a")).includes(`${n}`));
  expect((await third.status()).resent).toBe(before);
  expect(await lastSequence(nats.url, world.facts)).toBeGreaterThan(n);
});
