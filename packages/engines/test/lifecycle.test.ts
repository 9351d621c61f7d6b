import { ClickHouseLogLevel, createClient } from "@clickhouse/client";
import { Client as ElasticsearchClient } from "@elastic/elasticsearch";
import { Redis } from "ioredis";
import { connect, StringCodec } from "nats";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestEngine, type EngineName, isAlive, isStopped, type TestEngine } from "../src/index.ts";
import { identify, tree } from "../src/processes.ts";

/** What a service does with its engine, by the official client: write a value, read it back. */
interface Use {
  service: string;
  stranger: string;
  write(url: string, value: string): Promise<void>;
  /** Undefined if the data is gone. */
  read(url: string): Promise<string | undefined>;
}

async function withRedis<T>(url: string, use: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null, commandTimeout: 2_000 });
  client.on("error", () => {});
  try {
    await client.connect();
    return await use(client);
  } finally {
    client.disconnect();
  }
}

async function withPostgres<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000, query_timeout: 3_000 });
  client.on("error", () => {});
  try {
    await client.connect();
    return await use(client);
  } finally {
    await client.end().catch(() => {});
  }
}

function natsOptions(url: string) {
  const { host, username, password } = new URL(url);
  return {
    servers: host,
    user: username,
    pass: password,
    timeout: 2_000,
    reconnect: false,
    inboxPrefix: `_INBOX_${username}`,
  };
}

const STREAM = { name: "USERS", subjects: ["users.*"] };

const USES: Record<EngineName, Use> = {
  postgres: {
    service: "user",
    stranger: "search",
    write: (url, value) =>
      withPostgres(url, async (client) => {
        await client.query("CREATE TABLE IF NOT EXISTS kept (value text)");
        await client.query("DELETE FROM kept");
        await client.query("INSERT INTO kept VALUES ($1)", [value]);
      }),
    read: (url) =>
      withPostgres(url, async (client) => {
        const exists = await client.query("SELECT to_regclass('kept') IS NOT NULL AS yes");
        return exists.rows[0].yes ? (await client.query("SELECT value FROM kept")).rows[0]?.value : undefined;
      }),
  },
  redis: {
    service: "session",
    stranger: "user",
    write: (url, value) => withRedis(url, async (client) => void (await client.set("kept", value))),
    read: (url) => withRedis(url, async (client) => (await client.get("kept")) ?? undefined),
  },
  clickhouse: {
    service: "analytics",
    stranger: "session",
    async write(url, value) {
      const client = createClient({ url, request_timeout: 3_000, log: { level: ClickHouseLogLevel.OFF } });
      await client.command({
        query: "CREATE TABLE IF NOT EXISTS kept (value String) ENGINE = MergeTree ORDER BY value",
      });
      await client.insert({ table: "kept", values: [{ value }], format: "JSONEachRow" });
      await client.close();
    },
    async read(url) {
      const client = createClient({ url, request_timeout: 3_000, log: { level: ClickHouseLogLevel.OFF } });
      try {
        const tables = await client.query({ query: "EXISTS kept", format: "JSONEachRow" });
        if (!(await tables.json<{ result: number }>())[0]?.result) return undefined;
        const rows = await client.query({ query: "SELECT value FROM kept", format: "JSONEachRow" });
        return (await rows.json<{ value: string }>())[0]?.value;
      } finally {
        await client.close();
      }
    },
  },
  elasticsearch: {
    service: "search",
    stranger: "analytics",
    async write(node, value) {
      const client = new ElasticsearchClient({ node, maxRetries: 0, requestTimeout: 5_000 });
      await client.index({ index: "kept", id: "1", document: { value }, refresh: true });
      await client.close();
    },
    async read(node) {
      const client = new ElasticsearchClient({ node, maxRetries: 0, requestTimeout: 5_000 });
      try {
        return (await client.get<{ value: string }>({ index: "kept", id: "1" }))._source?.value;
      } catch (error) {
        if ((error as { statusCode?: number }).statusCode === 404) return undefined;
        throw error;
      } finally {
        await client.close();
      }
    },
  },
  nats: {
    service: "user",
    stranger: "gateway",
    async write(url, value) {
      const connection = await connect(natsOptions(url));
      const manager = await connection.jetstreamManager({ checkAPI: false });
      await manager.streams.add(STREAM);
      await connection.jetstream().publish("users.1", StringCodec().encode(value));
      await connection.close();
    },
    async read(url) {
      const connection = await connect(natsOptions(url));
      try {
        const manager = await connection.jetstreamManager({ checkAPI: false });
        const message = await manager.streams.getMessage("USERS", { last_by_subj: "users.1" });
        return StringCodec().decode(message.data);
      } catch (error) {
        if (/stream not found/.test(String(error))) return undefined;
        throw error;
      } finally {
        await connection.close();
      }
    },
  },
};

describe.each(Object.keys(USES) as EngineName[])("%s", (name) => {
  const use = USES[name];
  let engine: TestEngine;

  beforeAll(async () => {
    engine = await createTestEngine(name);
  }, 600_000);

  afterAll(async () => {
    await engine?.dispose();
  });

  test("serves the service it belongs to, and no other", async () => {
    await use.write(engine.urlFor(use.service), "first");
    expect(await use.read(engine.urlFor(use.service))).toBe("first");
    expect(() => engine.urlFor(use.stranger)).toThrow(`service ${use.stranger} has no credential`);
  });

  test("refuses a wrong password and no password at all", async () => {
    const wrong = new URL(engine.urlFor(use.service));
    wrong.password = "wrong";
    await expect(use.read(wrong.href)).rejects.toThrow();
    wrong.username = "";
    wrong.password = "";
    await expect(use.read(wrong.href)).rejects.toThrow();
  });

  test("frozen it answers nothing, thawed it goes on as the same process", async () => {
    const pid = engine.pid!;
    engine.freeze();
    expect(await engine.isReady()).toBe(false);
    // A child that had just ended is not there to be stopped.
    for (const member of tree(pid).flatMap((id) => identify(id) ?? [])) expect(isStopped(member)).toBe(true);
    await expect(use.read(engine.urlFor(use.service))).rejects.toThrow();
    engine.thaw();
    await expect.poll(() => engine.isReady(), { timeout: 20_000 }).toBe(true);
    expect(engine.pid).toBe(pid);
    expect(await use.read(engine.urlFor(use.service))).toBe("first");
  });

  test("killed it is gone with all its processes, and comes back on its port with its data", async () => {
    const port = engine.port;
    const members = tree(engine.pid!).flatMap((pid) => identify(pid) ?? []);
    const exits: unknown[] = [];
    const forget = engine.onExit((exit) => exits.push(exit));
    await engine.kill();
    forget();
    expect(exits).toMatchObject([{ signal: "SIGKILL", expected: true }]);
    await expect.poll(() => members.filter(isAlive), { timeout: 5_000 }).toEqual([]);
    expect(engine.pid).toBeUndefined();
    await engine.start();
    expect(engine.port).toBe(port);
    expect(await use.read(engine.urlFor(use.service))).toBe("first");
  });

  test("a SIGKILL from outside is told to the one who watches, and it can be started again", async () => {
    const ended = new Promise((resolve) => engine.onExit(resolve));
    process.kill(engine.pid!, "SIGKILL");
    expect(await ended).toMatchObject({ signal: "SIGKILL", expected: false });
    await engine.start();
    expect(await use.read(engine.urlFor(use.service))).toBe("first");
  });

  test("stopped in order it keeps its data; wiped it is empty", async () => {
    await engine.stop();
    expect(engine.pid).toBeUndefined();
    await engine.start();
    expect(await use.read(engine.urlFor(use.service))).toBe("first");
    await engine.wipe();
    await engine.start();
    expect(await use.read(engine.urlFor(use.service))).toBeUndefined();
  });
});
