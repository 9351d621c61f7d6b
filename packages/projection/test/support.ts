import { createTestEngine, type TestEngine } from "@quartet/engines";
import { Redis } from "ioredis";
import { connect, type JetStreamManager, type NatsConnection } from "nats";
import {
  createProjector,
  type Item,
  type Logger,
  type Projector,
  type ProjectorOptions,
  StoreUnavailable,
  type Verdict,
} from "../src/index.ts";

/** The event of these tests: the state of a key, a fact, or a heartbeat. */
export interface TestEvent {
  key: string;
  version: number;
  value: unknown;
  time?: string;
}

export function decode({ data }: { data: Uint8Array }): TestEvent {
  return JSON.parse(new TextDecoder().decode(data)) as TestEvent;
}

/** Polls until `condition` holds. Throws with `what` after the deadline. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, ms = 30_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export interface Bench {
  nats: TestEngine;
  redis: TestEngine;
  nc: NatsConnection;
  jsm: JetStreamManager;
  db: Redis;
  end(): Promise<void>;
}

/** An admin's connection, for tests that look at the broker themselves. */
async function admin(nats: TestEngine): Promise<NatsConnection> {
  const url = new URL(nats.url);
  return connect({
    servers: url.host,
    user: url.username,
    pass: url.password,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 50,
    timeout: 5_000,
  });
}

export function redisClient(url: string): Redis {
  const client = new Redis(url, { maxRetriesPerRequest: 0, commandTimeout: 1_000, retryStrategy: () => 50 });
  client.on("error", () => {});
  return client;
}

export async function startBench(): Promise<Bench> {
  const [nats, redis] = await Promise.all([createTestEngine("nats"), createTestEngine("redis")]);
  const nc = await admin(nats);
  const jsm = await nc.jetstreamManager({ timeout: 5_000 });
  await jsm.streams.add({ name: "DEAD", subjects: ["dead.*.*"] });
  const db = redisClient(redis.url);
  return {
    nats,
    redis,
    nc,
    jsm,
    db,
    async end() {
      db.disconnect();
      await nc.close();
      await Promise.all([nats.dispose(), redis.dispose()]);
    },
  };
}

let streams = 0;
/** A stream of its own for a test: `<name>.<key>` and `<name>.heartbeat.<source>`. */
export async function makeStream(bench: Bench, kind: "compacted" | "all"): Promise<string> {
  const name = `S${++streams}`;
  await addStream(bench, name, kind);
  return name;
}
export async function addStream(bench: Bench, name: string, kind: "compacted" | "all"): Promise<void> {
  const limit = kind === "compacted" ? { max_msgs_per_subject: 1 } : {};
  await bench.jsm.streams.add({ name, subjects: [`${name}.*`, `heartbeat.${name}.*`], allow_direct: true, ...limit });
}

/** Publishes many messages and waits for their acknowledgements. */
export async function publishAll(bench: Bench, messages: { subject: string; body: string }[]): Promise<void> {
  const js = bench.nc.jetstream({ timeout: 20_000 });
  for (let i = 0; i < messages.length; i += 500) {
    await Promise.all(messages.slice(i, i + 500).map(({ subject, body }) => js.publish(subject, body)));
  }
}
export function state(stream: string, key: string, version: number, value: unknown = version) {
  return { subject: `${stream}.${key}`, body: JSON.stringify({ key, version, value }) };
}
export function heartbeat(stream: string, source: string, at: Date) {
  return { subject: `heartbeat.${stream}.${source}`, body: JSON.stringify({ time: at.toISOString() }) };
}

const UPSERT = `
local out = {}
for i = 1, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if known and tonumber(string.match(known, '^%d+')) >= tonumber(ARGV[i + 1]) then out[#out + 1] = 'stale'
  else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2]); out[#out + 1] = 'applied' end
end
return out`;

/** Applies states to one Redis hash, where the store itself refuses an older version. */
export async function upsert(db: Redis, hash: string, batch: Item<TestEvent>[]): Promise<Verdict[]> {
  if (batch.length === 0) return [];
  const values = batch.flatMap(({ event }) => [event.key, String(event.version), JSON.stringify(event.value ?? null)]);
  try {
    return (await db.eval(UPSERT, 1, hash, ...values)) as Verdict[];
  } catch (cause) {
    if (cause instanceof Error && /^(ERR|WRONGTYPE)/.test(cause.message)) throw cause;
    throw new StoreUnavailable("redis", { cause });
  }
}

/** What the hash holds: key to version and value. */
export async function contents(db: Redis, hash: string): Promise<Record<string, { version: number; value: unknown }>> {
  const all = await db.hgetall(hash);
  return Object.fromEntries(
    Object.entries(all).map(([key, text]) => {
      const space = text.indexOf(" ");
      return [key, { version: Number(text.slice(0, space)), value: JSON.parse(text.slice(space + 1)) as unknown }];
    }),
  );
}

export interface Running<T = TestEvent> {
  projector: Projector;
  log: { level: string; message: string }[];
  batches: number[];
  stop(): Promise<void>;
  options: ProjectorOptions<T>;
}

const living = new Set<() => Promise<void>>();
/** For afterEach: stops what a failed test left running. */
export async function stopAll(): Promise<void> {
  await Promise.all([...living].map((stop) => stop()));
}

/** Runs a projector of `stream` into the Redis hash of the same name, unless `more` says otherwise. */
export function project(bench: Bench, stream: string, more: Partial<ProjectorOptions<TestEvent>> = {}): Running {
  const log: { level: string; message: string }[] = [];
  const batches: number[] = [];
  const write = (level: string) => (fields: object, message: string) =>
    void log.push({ level, message: `${message} ${JSON.stringify(fields)}` });
  const logger: Logger = { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
  const options: ProjectorOptions<TestEvent> = {
    nats: { url: bench.nats.url, name: "test" },
    stream,
    consumer: "shop",
    decode,
    apply: (batch) => upsert(bench.db, stream, batch),
    logger,
    metrics: { batch: (n) => batches.push(n) },
    ...more,
  };
  const projector = createProjector(options);
  const abort = new AbortController();
  const ended = projector.run(abort.signal);
  const stop = async () => {
    living.delete(stop);
    abort.abort();
    await ended;
  };
  living.add(stop);
  return { projector, log, batches, stop, options };
}
