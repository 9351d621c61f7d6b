import { cpSync, rmSync } from "node:fs";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { appendOutbox, createPostgresRelay, type StreamLoss } from "../src/index.ts";
import { killAll, postgresRelay } from "./support/process.ts";
import {
  eventually,
  lastSequence,
  makeStream,
  makeWorld,
  natsOptions,
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

const facts = async () => values(await readStream(nats.url, world.facts));
const states = async () =>
  Object.fromEntries((await readStream(nats.url, world.state)).map((m) => [m.subject.split(".")[1], values([m])[0]]));

/** Commits fact and state n of key a, and waits until the stream and a checkpoint of it have them. */
async function commitAndCheckpoint(...numbers: number[]): Promise<void> {
  for (const n of numbers)
    await world.commit(world.fact("a", `${n}`), world.stateOf("a", `${n}`), world.stateOf(`k${n}`, "1"));
  const horizon = (await world.pool.query("SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xmin")).rows[0].xmin;
  await eventually("relayed", async () => (await facts()).includes(`${numbers.at(-1)}`));
  await eventually("a checkpoint past it", async () => {
    // The horizon moves with the next thing that is published.
    await world.commit(world.fact("tick", `${Math.random()}`));
    const newest = await world.pool.query(
      "SELECT min(horizon) >= $1::xid8 AS past FROM (SELECT DISTINCT ON (stream) horizon FROM outbox_checkpoint ORDER BY stream, at DESC) c",
      [horizon],
    );
    return newest.rows[0].past;
  });
}

async function expectAll(count: number): Promise<void> {
  const wanted = Array.from({ length: count }, (_, i) => `${i + 1}`);
  await eventually("every fact", async () => {
    const seen = await facts();
    return wanted.every((n) => seen.includes(n));
  });
  await eventually("every state", async () => {
    const seen = await states();
    return seen.a === `${count}` && wanted.every((n) => seen[`k${n}`] === "1");
  });
}

test("a stream that comes back older than it was is filled again from the table, old states first", async () => {
  world = await makeWorld(postgres, nats);
  let relay = postgresRelay(world, nats.url);
  await commitAndCheckpoint(1);
  // An old transaction that commits late: its rows stand among rows that were acknowledged long before.
  const slow = await world.pool.connect();
  await slow.query("BEGIN");
  await appendOutbox(slow, [world.fact("slow", "slow")]);
  await commitAndCheckpoint(2, 3);
  await nats.stop();
  const copy = `${nats.dir}.copy`;
  cpSync(nats.dir, copy, { recursive: true });
  await nats.start();
  await commitAndCheckpoint(4, 5, 6);
  await slow.query("COMMIT");
  slow.release();
  await commitAndCheckpoint(7);
  expect(await facts()).toContain("slow");
  const before = await lastSequence(nats.url, world.facts);

  // Acknowledged messages vanish, as with a disk that lost what was not fsynced, while the relay lives...
  const putBack = async () => {
    await nats.kill();
    rmSync(nats.dir, { recursive: true });
    cpSync(copy, nats.dir, { recursive: true });
  };
  await putBack();
  await nats.start();
  await expectAll(7);
  expect(await facts()).toContain("slow");
  expect(relay.log).toContain("stream lacks what it acknowledged");
  expect((await relay.status()).resent).toBeGreaterThanOrEqual(12);
  await commitAndCheckpoint(8);

  // ...and while it is down, with more written meanwhile, and killed again: right after it has noticed, and while it sends.
  await relay.kill();
  await putBack();
  await world.commit(world.fact("a", "9"), world.stateOf("a", "9"), world.stateOf("k9", "1"));
  await nats.start();
  for (const stream of [world.state, world.facts]) {
    const noticed = "UPDATE outbox_checkpoint SET refuted = true WHERE stream = $1 AND sequence > $2";
    await world.pool.query(noticed, [stream, await lastSequence(nats.url, stream)]);
  }
  for (let i = 0; i < 3; i++) {
    relay = postgresRelay(world, nats.url);
    await eventually("something is sent", async () => (await relay.status()).published > 0);
    await relay.kill();
  }
  relay = postgresRelay(world, nats.url);
  await expectAll(9);
  await commitAndCheckpoint(10);
  await expectAll(10);
  rmSync(copy, { recursive: true });
  expect(await lastSequence(nats.url, world.facts)).toBeGreaterThan(before);

  // All is well now: a restart sends nothing again.
  await relay.end("SIGTERM");
  relay = postgresRelay(world, nats.url);
  await world.commit(world.fact("a", "11"));
  await eventually("relayed", async () => (await facts()).includes("11"));
  expect(await relay.status()).toMatchObject({ resent: 0, lastError: null });
});

test("a slot that was dropped, or invalidated, is made anew and the gap is sent from the table", async () => {
  world = await makeWorld(postgres, nats);
  let relay = postgresRelay(world, nats.url);
  await commitAndCheckpoint(1, 2);
  await relay.kill();
  await eventually("the slot is free", () =>
    world.pool.query("SELECT pg_drop_replication_slot($1)", [world.slot]).then(() => true),
  );
  await world.commit(world.fact("a", "3"), world.stateOf("a", "3"), world.stateOf("k3", "1"));
  // Killed as soon as the new slot stands: the debt is on record.
  relay = postgresRelay(world, nats.url);
  await eventually("a new slot", async () => {
    const slot = await world.pool.query("SELECT FROM pg_replication_slots WHERE slot_name = $1", [world.slot]);
    return slot.rowCount;
  });
  await relay.kill();
  relay = postgresRelay(world, nats.url);
  await expectAll(3);
  await commitAndCheckpoint(4);
  await eventually("the debt is settled", async () => {
    const debt = await world.pool.query("SELECT FROM outbox_owed");
    return debt.rowCount === 0;
  });

  await relay.kill();
  await world.commit(world.fact("a", "5"), world.stateOf("a", "5"), world.stateOf("k5", "1"));
  await world.admin.query("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
  await world.admin.query("SELECT pg_reload_conf()");
  await eventually("the slot is lost", async () => {
    await world.admin.query("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 4000000))");
    await world.admin.query("SELECT pg_switch_wal()");
    await world.admin.query("CHECKPOINT");
    const slot = await world.pool.query("SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", [
      world.slot,
    ]);
    return slot.rows[0].wal_status === "lost";
  });
  await world.admin.query("ALTER SYSTEM RESET max_slot_wal_keep_size");
  await world.admin.query("SELECT pg_reload_conf()");
  relay = postgresRelay(world, nats.url);
  await expectAll(5);
  expect(relay.log).toContain("wal_removed");
  await commitAndCheckpoint(6);
  await expectAll(6);
});

test("a stream that was wiped gets every retained event and its owner is told, until the owner has coped", async () => {
  world = await makeWorld(postgres, nats);
  const losses: StreamLoss[] = [];
  const abort = new AbortController();
  const relay = createPostgresRelay({
    connectionString: world.databaseUrl,
    slot: world.slot,
    publication: "outbox_pub",
    nats: natsOptions(nats.url),
    streams: world.streams,
    checkpointMs: 100,
    ackTimeoutMs: 2_000,
    maxBackoffMs: 200,
    async onStreamLost(loss) {
      losses.push(loss);
      if (losses.length === 1) throw new Error("not now");
      await world.commit(world.stateOf("reemitted", "yes"));
    },
  });
  const running = relay.run(abort.signal);
  await commitAndCheckpoint(1, 2);
  expect(losses).toEqual([]);
  // Under the eyes of a connected relay.
  await withNats(nats.url, async (_, jsm) => void (await jsm.streams.delete(world.state)));
  await makeStream(nats.url, world.state, [`state${world.n}.*`], { compacted: true });
  await eventually("all states", async () => {
    const seen = await states();
    return seen.a === "2" && seen.k1 && seen.k2 && seen.reemitted === "yes";
  });
  expect(losses.map(({ stream, complete }) => ({ stream, complete }))).toEqual([
    { stream: world.state, complete: true },
    { stream: world.state, complete: true },
  ]);
  await commitAndCheckpoint(3);
  abort.abort();
  await running;
  expect(losses).toHaveLength(2);
});

test("partitions: a write never lacks one, and a day goes only when all of it is confirmed", async () => {
  world = await makeWorld(postgres, nats);
  const partitions = async () => {
    const sql =
      "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'outbox'::regclass ORDER BY 1";
    return (await world.pool.query(sql)).rows.map((row) => row.name as string);
  };
  const day = (offset: number) => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10);
  const name = (offset: number) => `outbox_p${day(offset).replaceAll("-", "")}`;
  expect(await partitions()).toEqual(["outbox_default", name(0), name(1), name(2), name(3)]);

  // An old day, and rows of days that have no partition.
  await world.pool.query(
    `CREATE TABLE ${name(-9)} PARTITION OF outbox FOR VALUES FROM ('${day(-9)}') TO ('${day(-8)}')`,
  );
  const old = (offset: number, n: string) => {
    const fact = world.fact("a", n);
    return world.pool.query(
      "INSERT INTO outbox (day, event_id, stream, subject, msg_id, key, payload) VALUES ($1, $2, $3, $4, $5, $6, $7)",
      [day(offset), fact.id, fact.stream, fact.subject, fact.msgId, fact.key, fact.payload],
    );
  };
  await old(-9, "1");
  await old(-7, "2");
  await old(40, "3");
  const retention = { retentionDays: 3, maintenanceMs: 100, ackTimeoutMs: 1_000 };

  nats.freeze();
  let relay = postgresRelay(world, nats.url, retention);
  await eventually("attempts", async () => (await relay.status()).restarts >= 2);
  expect(await partitions()).toContain(name(-9));
  nats.thaw();
  await eventually("relayed", async () => (await facts()).length === 3);
  // A transaction that is still open holds the horizon back: its rows may be of that day.
  await eventually("the old day is gone", async () => {
    await world.commit(world.fact("tick", `${Math.random()}`));
    return !(await partitions()).includes(name(-9));
  });
  await eventually("the old rows of the default partition are gone", async () => {
    const rows = await world.pool.query("SELECT payload FROM outbox_default");
    return rows.rowCount === 1;
  });
  const relayRow = await world.pool.query("SELECT dropped_until FROM outbox_relay");
  expect(relayRow.rows[0].dropped_until).not.toBeNull();
  await relay.kill();

  // What was dropped cannot be sent again, and that is said.
  await withNats(nats.url, async (_, jsm) => void (await jsm.streams.delete(world.facts)));
  await makeStream(nats.url, world.facts, [`facts${world.n}.*`]);
  const losses: StreamLoss[] = [];
  const abort = new AbortController();
  const last = createPostgresRelay({
    connectionString: world.databaseUrl,
    slot: world.slot,
    publication: "outbox_pub",
    nats: natsOptions(nats.url),
    streams: world.streams,
    onStreamLost: async (loss) => void losses.push(loss),
  });
  const running = last.run(abort.signal);
  await eventually("told", () => losses.length > 0);
  expect(losses[0]).toMatchObject({ stream: world.facts, complete: false });
  await eventually("what is left", async () => (await facts()).includes("3"));
  abort.abort();
  await running;
  relay = postgresRelay(world, nats.url, retention);
  await eventually("it goes on", async () => (await relay.status()).active);
});
