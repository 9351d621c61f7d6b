import { randomUUID } from "node:crypto";
import type { Outgoing } from "@quartet/contracts";
import { createTestEngine } from "@quartet/engines";
import {
  appendOutbox,
  appendRedisOutbox,
  createPostgresRelay,
  createRedisRelay,
  ensurePartitions,
  type OutboxEvent,
  outboxMigration,
  type Relay,
  type RelayLogger,
  type RelayMetrics,
  type RelayStatus,
} from "@quartet/outbox";
import { Redis } from "ioredis";
import type { NatsConnection } from "nats";
import pg from "pg";
import { sessionStarted, update } from "./events.ts";
import { type Comparison, compare } from "./numbers.ts";
import { connectTo, type Message, makeStream, natsOptions, publishRaw, Stopwatch, within } from "./streams.ts";

export interface RelayBench {
  comparisons: Comparison[];
  versions: Record<string, string>;
}

const HEADERS = { "Content-Type": "application/cloudevents+json" };
const LIMIT = "JetStream publishes, hand-pipelined";
const DRAIN_MS = 60_000;
/** Kept in the outbox beside each other and loaded at once. */
const LOADERS = 4;
const REDIS_CHUNK = 100;

/**
 * How fast a relay drains a store that ran ahead of it, beside how fast one Node process can publish the same payloads to streams with the same
 * settings. Each relay runs in this process, as the raw publisher does; both are timed from the first ack to the last.
 */
export async function benchRelay(options: { events: number; rounds: number; untilMs: number }): Promise<RelayBench> {
  const [nats, postgres, redis] = await Promise.all([
    createTestEngine("nats"),
    createTestEngine("postgres"),
    createTestEngine("redis"),
  ]);
  const nc = await connectTo(nats.url);
  const half = performance.now() + (options.untilMs - performance.now()) * 0.65;
  try {
    for (const raw of ["", "raw"]) {
      await makeStream(nc, `${raw}USERS`.toUpperCase(), [`${raw}users.*`], true);
      await makeStream(nc, `${raw}FACTS`.toUpperCase(), [`${raw}facts.*.*.*`], false);
    }
    const fromPostgres = await benchPostgres(postgres.urlFor("user"), nats.url, nc, { ...options, untilMs: half });
    const fromRedis = await benchRedis(redis.urlFor("session"), nats.url, nc, options);
    return {
      comparisons: [fromPostgres.comparison, fromRedis.comparison],
      versions: { NATS: nc.info?.version ?? "?", PostgreSQL: fromPostgres.version, Redis: fromRedis.version },
    };
  } finally {
    await nc.close().catch(() => {});
    await Promise.all([nats.dispose(), postgres.dispose(), redis.dispose()]);
  }
}

type Options = Parameters<typeof benchRelay>[0];

async function benchPostgres(url: string, natsUrl: string, nc: NatsConnection, { events, rounds, untilMs }: Options) {
  // What an unsynchronised commit may lose, no bench will miss; only the loading is quicker.
  const pool = new pg.Pool({ connectionString: url, max: LOADERS, options: "-c synchronous_commit=off" });
  pool.on("error", () => {});
  try {
    for (const statement of outboxMigration("bench_outbox")) await pool.query(statement);
    const client = await pool.connect();
    await ensurePartitions(client);
    client.release();
    const version = (await pool.query<{ server_version: string }>("SHOW server_version")).rows[0]!.server_version;
    const create = (metrics: RelayMetrics) =>
      createPostgresRelay({
        connectionString: url,
        slot: "bench",
        publication: "bench_outbox",
        nats: natsOptions(natsUrl),
        streams: { USERS: { fence: true, headers: HEADERS }, FACTS: { fence: false, headers: HEADERS } },
        logger,
        metrics,
      });
    await makeSlot(create);
    const comparison = await compare(
      { what: "relay from PostgreSQL's WAL (USERS fenced, FACTS with message ids)", unit: "events/s", limit: LIMIT },
      rounds,
      untilMs,
      {
        async measured() {
          // A state and its fact in one transaction, as a PATCH writes them.
          const pairs = Array.from({ length: events / 2 }, (_, i) => update(i).map(toOutbox));
          await inParallel(LOADERS, pairs, (pair) => appendOutbox(pool, pair));
          return drain(create, pairs.length * 2);
        },
        raw: () => publishRaw(nc, Array.from({ length: events / 2 }, (_, i) => update(i).map(toRaw)).flat()),
      },
    );
    return { comparison, version };
  } finally {
    await pool.end();
  }
}

async function benchRedis(url: string, natsUrl: string, nc: NatsConnection, { events, rounds, untilMs }: Options) {
  const redis = new Redis(url);
  redis.on("error", () => {});
  try {
    const version = /redis_version:(\S+)/.exec(await redis.info("server"))?.[1] ?? "?";
    const create = (metrics: RelayMetrics) =>
      createRedisRelay({
        url,
        prefix: "bench",
        nats: natsOptions(natsUrl),
        streams: { FACTS: { fence: false, headers: HEADERS } },
        logger,
        metrics,
      });
    const comparison = await compare(
      { what: "relay from a Redis stream (FACTS with message ids)", unit: "events/s", limit: LIMIT },
      rounds,
      untilMs,
      {
        async measured() {
          const chunks = Array.from({ length: events / REDIS_CHUNK }, () =>
            Array.from({ length: REDIS_CHUNK }, () => toOutbox(sessionStarted())),
          );
          await inParallel(LOADERS, chunks, async (chunk) => void (await appendRedisOutbox(redis, chunk, "bench")));
          return drain(create, chunks.length * REDIS_CHUNK);
        },
        raw: () =>
          publishRaw(
            nc,
            Array.from({ length: events }, () => toRaw(sessionStarted())),
          ),
      },
    );
    return { comparison, version };
  } finally {
    redis.disconnect();
  }
}

const logger: RelayLogger = {
  debug() {},
  info() {},
  // What matters of it (restarts, events sent again) is asked of the status after each round.
  warn() {},
  error: (_, message) => console.error(`  relay: ${message}`),
};

function toOutbox({ event, stream, subject, msgId, key }: Outgoing): OutboxEvent {
  return {
    id: stream === "USERS" ? event.id : randomUUID(),
    stream,
    subject,
    msgId: msgId ?? undefined,
    key: key ?? "",
    payload: JSON.stringify(event),
  };
}

function toRaw({ event, subject }: Outgoing): Message {
  return { subject: `raw${subject}`, payload: JSON.stringify(event) };
}

/** Runs a relay over what waits in its store until `expected` events are acknowledged. Returns events per second. */
async function drain(create: (metrics: RelayMetrics) => Relay<RelayStatus>, expected: number): Promise<number> {
  const watch = new Stopwatch(expected, DRAIN_MS);
  const stop = new AbortController();
  const relay = create({ published: () => watch.count() });
  const running = relay.run(stop.signal);
  try {
    return await watch.done;
  } finally {
    stop.abort();
    await within(running, 15_000, "the relay does not stop");
    const { restarts, resent, duplicates } = relay.status();
    if (restarts + resent + duplicates > 0) {
      console.error(`  the relay restarted ${restarts} times and sent ${resent} events again: this round is not clean`);
    }
  }
}

/** A relay that has been running once has made its slot: what is written from then on waits for it. */
async function makeSlot(create: (metrics: RelayMetrics) => Relay<RelayStatus>): Promise<void> {
  const stop = new AbortController();
  const relay = create({});
  const running = relay.run(stop.signal);
  const deadline = performance.now() + 20_000;
  while (!relay.status().active && performance.now() < deadline) await new Promise((done) => setTimeout(done, 20));
  stop.abort();
  await within(running, 15_000, "the relay does not stop");
}

/** Works through the items, `width` at a time. */
async function inParallel<T>(width: number, items: T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length) await work(items[next++]!);
  };
  await Promise.all(Array.from({ length: width }, worker));
}
