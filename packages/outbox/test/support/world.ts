import { randomUUID } from "node:crypto";
import type { TestEngine } from "@quartet/engines";
import {
  AckPolicy,
  connect,
  DeliverPolicy,
  type JetStreamManager,
  type NatsConnection,
  nanos,
  RetentionPolicy,
  StorageType,
} from "nats";
import pg from "pg";
import {
  appendOutbox,
  ensurePartitions,
  type OutboxEvent,
  outboxMigration,
  type StreamOptions,
} from "../../src/index.ts";

/** Polls until `check` returns something true; throws with `what` after the deadline. */
export async function eventually<T>(
  what: string,
  check: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await check();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`not in ${timeoutMs} ms: ${what} (last: ${String(last)})`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

export interface Message {
  seq: number;
  subject: string;
  data: string;
  msgId: string | undefined;
  headers: Record<string, string>;
}

/** Connection options for an engine's URL with user and password in it. */
export function natsOptions(url: string) {
  const { hostname, port, username, password } = new URL(url);
  return { servers: `${hostname}:${port}`, user: username, pass: decodeURIComponent(password) };
}

/** A fresh connection each time: the server may have been killed meanwhile. */
export async function withNats<T>(
  url: string,
  use: (nc: NatsConnection, jsm: JetStreamManager) => Promise<T>,
): Promise<T> {
  const nc = await connect({ ...natsOptions(url), reconnect: false, timeout: 3_000 });
  try {
    return await use(nc, await nc.jetstreamManager({ timeout: 5_000 }));
  } finally {
    await nc.close();
  }
}

export async function makeStream(
  url: string,
  name: string,
  subjects: string[],
  options: { compacted?: boolean; duplicateWindowMs?: number } = {},
): Promise<void> {
  await withNats(url, async (_, jsm) => {
    await jsm.streams.add({
      name,
      subjects,
      storage: StorageType.File,
      retention: RetentionPolicy.Limits,
      max_msgs_per_subject: options.compacted ? 1 : -1,
      duplicate_window: nanos(options.duplicateWindowMs ?? 120_000),
    });
  });
}

/** Everything a stream holds, in order. */
export async function readStream(url: string, stream: string): Promise<Message[]> {
  return withNats(url, async (nc, jsm) => {
    const info = await jsm.consumers.add(stream, {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.All,
      inactive_threshold: nanos(30_000),
      mem_storage: true,
    });
    const consumer = await nc.jetstream().consumers.get(stream, info.name);
    const messages: Message[] = [];
    let pending = info.num_pending;
    while (pending > 0) {
      const batch = await consumer.fetch({ max_messages: 2_000, expires: 2_000 });
      for await (const m of batch) {
        const headers: Record<string, string> = {};
        for (const [name, values] of m.headers ?? []) headers[name] = values.join();
        const msgId = headers["Nats-Msg-Id"];
        messages.push({ seq: m.seq, subject: m.subject, data: m.string(), msgId, headers });
        pending = m.info.pending;
        if (pending === 0) break;
      }
    }
    await jsm.consumers.delete(stream, info.name);
    return messages;
  });
}

export async function lastSequence(url: string, stream: string): Promise<number> {
  return withNats(url, async (_, jsm) => (await jsm.streams.info(stream)).state.last_seq);
}

let worlds = 0;

/** A database of its own with an outbox, and two streams of its own: STATE (compacted, fenced) and FACTS. */
export interface World {
  n: number;
  databaseUrl: string;
  slot: string;
  state: string;
  facts: string;
  streams: Record<string, StreamOptions>;
  pool: pg.Pool;
  /** As superuser, in the same database. */
  admin: pg.Pool;
  stateOf(key: string, value: string, size?: number): OutboxEvent;
  fact(key: string, value: string): OutboxEvent;
  /** One transaction. */
  commit(...events: OutboxEvent[]): Promise<void>;
  dispose(): Promise<void>;
}

export async function makeWorld(postgres: TestEngine, nats: TestEngine): Promise<World> {
  const n = ++worlds;
  const name = `w${n}`;
  const admin0 = new pg.Client({ connectionString: postgres.url });
  await admin0.connect();
  await admin0.query(`CREATE DATABASE ${name} OWNER user_service`);
  await admin0.end();
  const at = (url: string) => url.replace(/\/quartet$/, `/${name}`);
  const databaseUrl = at(postgres.urlFor("user"));
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 12 });
  const admin = new pg.Pool({ connectionString: at(postgres.url), max: 2 });
  for (const p of [pool, admin]) p.on("error", () => {}).on("connect", (client) => void client.on("error", () => {}));
  for (const statement of outboxMigration("outbox_pub")) await pool.query(statement);
  const client = await pool.connect();
  await ensurePartitions(client);
  client.release();
  const state = `STATE${n}`;
  const facts = `FACTS${n}`;
  await makeStream(nats.url, state, [`state${n}.*`], { compacted: true });
  await makeStream(nats.url, facts, [`facts${n}.*`]);
  return {
    n,
    databaseUrl,
    slot: `slot_${name}`,
    state,
    facts,
    streams: { [state]: { fence: true }, [facts]: { fence: false } },
    pool,
    admin,
    stateOf: (key, value, size = 0) => ({
      id: randomUUID(),
      stream: state,
      subject: `state${n}.${key}`,
      key,
      payload: JSON.stringify({ value, pad: "x".repeat(size) }),
    }),
    fact: (key, value) => ({
      id: randomUUID(),
      stream: facts,
      subject: `facts${n}.${key}`,
      msgId: `${key}:${value}`,
      key,
      headers: { "Content-Type": "application/json" },
      payload: JSON.stringify({ value }),
    }),
    async commit(...events) {
      const client = await pool.connect();
      try {
        await client.query("BEGIN");
        await appendOutbox(client, events);
        await client.query("COMMIT");
        client.release();
      } catch (error) {
        client.release(true);
        throw error;
      }
    },
    async dispose() {
      // A failed test may leave a client checked out; the end of the pool would wait for it.
      const ended = Promise.all([pool.end(), admin.end()]).catch(() => {});
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 1_000).unref())]);
    },
  };
}

/** The `value` field of messages written by `stateOf` and `fact`. */
export function values(messages: Message[]): string[] {
  return messages.map((m) => (JSON.parse(m.data) as { value: string }).value);
}
