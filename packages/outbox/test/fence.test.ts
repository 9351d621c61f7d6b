import { createTestEngine, type TestEngine } from "@quartet/engines";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type DeafWire, deafWire } from "./support/deafWire.ts";
import { killAll, postgresRelay } from "./support/process.ts";
import { eventually, lastSequence, makeWorld, readStream, values, type World } from "./support/world.ts";

let postgres: TestEngine;
let nats: TestEngine;
let world: World;
let wire: DeafWire | undefined;

beforeAll(async () => {
  [postgres, nats] = await Promise.all([createTestEngine("postgres"), createTestEngine("nats")]);
});
afterAll(async () => {
  await postgres?.dispose();
  await nats?.dispose();
});
afterEach(async () => {
  nats.thaw();
  await killAll();
  wire?.close();
  await world?.dispose();
});

const STATES = 150;
const STATE_BYTES = 200_000;

/**
 * The old relay publishes STATES large states into a broker that does not read, until the buffers of the kernel are full and the rest waits inside
 * the process; then it is frozen. A new relay takes the slot, sends all of them and the tombstone that follows. Then the old one thaws and
 * writes out what it had left: nobody has told it that its slot is gone. (Heard at the same moment, the bad news would race with the rest of the
 * buffer, and which comes first is chance.) Returns both relays, and where the stream ended before the thaw.
 */
async function thawAnOldRelay(fence: boolean) {
  world = await makeWorld(postgres, nats);
  const streams = { [world.state]: { fence } };
  wire = await deafWire(world.databaseUrl);
  const old = postgresRelay(world, nats.url, { streams, ackTimeoutMs: 120_000, connectionString: wire.url });
  await world.commit(world.stateOf("x", "0"));
  await eventually("the old relay works", async () => (await lastSequence(nats.url, world.state)) === 1);
  await eventually("and has written its checkpoint", async () => {
    const found = await world.pool.query("SELECT FROM outbox_checkpoint WHERE sequence = 1");
    return found.rowCount;
  });

  nats.freeze();
  for (let i = 1; i <= STATES; i++) await world.commit(world.stateOf("x", `${i}`, STATE_BYTES));
  await eventually("all is published", async () => (await old.status()).unacked === STATES);
  old.freeze();
  nats.thaw();
  const before = await eventually("what the kernel had is in", async () => {
    const first = await lastSequence(nats.url, world.state);
    await new Promise((resolve) => setTimeout(resolve, 200));
    return first === (await lastSequence(nats.url, world.state)) && first;
  });
  expect(before).toBeGreaterThan(1);
  expect(before).toBeLessThan(STATES);

  const fresh = postgresRelay(world, nats.url, { streams });
  await eventually("the new relay has the slot", async () => (await fresh.status()).active);
  await world.commit(world.stateOf("x", "dead"));
  await eventually("the tombstone is last", async () => values(await readStream(nats.url, world.state))[0] === "dead");

  const sequence = await lastSequence(nats.url, world.state);
  old.thaw();
  return { old, fresh, sequence };
}

test("without the fence, a thawed relay brings the dead back", async () => {
  const { sequence } = await thawAnOldRelay(false);
  await eventually("what it had left is in", async () => (await lastSequence(nats.url, world.state)) > sequence);
  // However far it came: the tombstone is not the last word any more, and nobody notices.
  const [last] = values(await readStream(nats.url, world.state));
  expect(Number(last)).toBeGreaterThan(1);
  expect(Number(last)).toBeLessThanOrEqual(STATES);
});

test("with the fence, all of a thawed relay's publishes are refused, and it becomes the standby", async () => {
  const { old, fresh, sequence } = await thawAnOldRelay(true);
  const status = await eventually("the old one gave up", async () => {
    const status = await old.status();
    return !status.active && status.restarts > 0 && status;
  });
  expect(status.lastError?.name).toBe("FencedError");
  expect(await lastSequence(nats.url, world.state)).toBe(sequence);
  expect(values(await readStream(nats.url, world.state))).toEqual(["dead"]);
  expect(await fresh.status()).toMatchObject({ active: true, restarts: 0 });

  // The standby takes over and is not fenced off by its own past.
  await fresh.kill();
  await world.commit(world.stateOf("x", "another life"));
  await eventually("it", async () => values(await readStream(nats.url, world.state))[0] === "another life");
});

test("somebody else writes to a fenced stream: the relay sends its part again and goes on", async () => {
  world = await makeWorld(postgres, nats);
  const relay = postgresRelay(world, nats.url);
  await world.commit(world.stateOf("x", "1"));
  await eventually("it", async () => (await lastSequence(nats.url, world.state)) >= 1);
  const { withNats } = await import("./support/world.ts");
  await withNats(nats.url, async (nc) => void (await nc.jetstream().publish(`state${world.n}.intruder`, "{}")));
  await world.commit(world.stateOf("x", "2"));
  await eventually("2", async () => values(await readStream(nats.url, world.state)).includes("2"));
  const status = await relay.status();
  expect(status.restarts).toBeGreaterThan(0);
  expect(relay.log).toContain("FencedError");
});
