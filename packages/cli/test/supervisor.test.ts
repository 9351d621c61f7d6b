import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createEngine, type Engine } from "@quartet/engines";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { freeze, kill, revive, stateOf } from "../src/control.ts";
import { type Part, Supervisor } from "../src/supervisor.ts";

const home = mkdtempSync(join(tmpdir(), "quartet-supervisor-"));
const said: string[] = [];
let changes = 0;
let redis: Engine;
let nats: Engine;
let supervisor: Supervisor;

beforeAll(async () => {
  const options = { home, randomPort: true, disposable: true, dieWithParent: true };
  redis = createEngine("redis", options);
  nats = createEngine("nats", options);
  await Promise.all([redis.start(), nats.start()]);
  supervisor = new Supervisor({ home, say: (line) => said.push(line), changed: () => changes++ });
  for (const engine of [redis, nats]) supervisor.watch(engine, () => engine.isReady());
});

beforeEach(() => {
  said.length = 0;
});

afterAll(async () => {
  await supervisor.stop([[redis], [nats]]);
  expect([redis.pid, nats.pid]).toEqual([undefined, undefined]);
  expect(said.filter((line) => line.includes("starting it again"))).toEqual([]);
  rmSync(home, { recursive: true, force: true });
});

const ready = (engine: Engine) => expect.poll(() => engine.isReady(), { timeout: 20_000 }).toBe(true);

test("what is killed comes back on its port, each of several at once, and it is said", async () => {
  const before = [redis.pid, nats.pid];
  const ports = [redis.port, nats.port];
  const changed = changes;
  for (const pid of before) process.kill(pid!, "SIGKILL");
  await expect.poll(() => said.filter((line) => line.includes("is back")).length, { timeout: 20_000 }).toBe(2);
  await ready(redis);
  await ready(nats);
  expect([redis.port, nats.port]).toEqual(ports);
  expect(redis.pid).not.toBe(before[0]);
  expect(said.sort()).toEqual([
    expect.stringMatching(/^nats ended \(SIGKILL\); starting it again$/),
    expect.stringMatching(/^nats is back after [\d.]+ s$/),
    expect.stringMatching(/^redis ended \(SIGKILL\); starting it again$/),
    expect.stringMatching(/^redis is back after [\d.]+ s$/),
  ]);
  expect(changes - changed).toBe(4);
});

test("what is held down stays down until it is revived", async () => {
  await kill(home, "redis", { hold: true });
  await expect.poll(() => said.length, { timeout: 5_000 }).toBe(1);
  await expect.poll(() => stateOf(home, "redis"), { timeout: 5_000 }).toBe("held");
  expect(await redis.isReady()).toBe(false);
  revive(home, "redis");
  await expect.poll(() => said.at(-1), { timeout: 20_000 }).toMatch(/^redis is back/);
  expect(stateOf(home, "redis")).toBe("running");
});

test("what is frozen from elsewhere is left alone and goes on as the same process", async () => {
  const pid = nats.pid;
  freeze(home, "nats");
  expect(stateOf(home, "nats")).toBe("frozen");
  expect(await nats.isReady()).toBe(false);
  revive(home, "nats");
  await ready(nats);
  expect(nats.pid).toBe(pid);
  expect(said).toEqual([]);
});

test("one that takes longer to start than it may be silent is not restarted; one that runs and is silent is", async () => {
  const lines: string[] = [];
  const folder = mkdtempSync(join(tmpdir(), "quartet-supervisor-"));
  const engine = createEngine("redis", { home: folder, randomPort: true, disposable: true, dieWithParent: true });
  await engine.start();
  let answering = true;
  const started = Promise.withResolvers<void>();
  const slow: Part = {
    name: engine.name,
    get port() {
      return engine.port;
    },
    get pid() {
      return engine.pid;
    },
    async start() {
      await engine.start();
      await started.promise;
    },
    stop: () => engine.stop(),
    killNow: () => engine.killNow(),
    kill: () => engine.kill(),
    onExit: (listener) => engine.onExit(listener),
  };
  const patient = { checkEveryMs: 20, unreachableAfterMs: 200 };
  const own = new Supervisor({ home: folder, say: (line) => lines.push(line), changed: () => {}, ...patient });
  own.watch(slow, async () => answering);
  const first = engine.pid;
  process.kill(first!, "SIGKILL");
  await expect.poll(() => engine.pid, { timeout: 20_000 }).not.toBe(first);
  await ready(engine);
  answering = false;
  const second = engine.pid;
  // Five times as long as it may be silent once it runs.
  await sleep(5 * patient.unreachableAfterMs);
  expect(engine.pid).toBe(second);
  expect(lines).toEqual(["redis ended (SIGKILL); starting it again"]);
  started.resolve();
  await expect.poll(() => lines.some((line) => line.includes("has not answered")), { timeout: 20_000 }).toBe(true);
  answering = true;
  await own.stop([[slow]]);
  rmSync(folder, { recursive: true, force: true });
});
