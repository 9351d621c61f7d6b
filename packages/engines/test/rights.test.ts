import { ClickHouseLogLevel, createClient } from "@clickhouse/client";
import { Redis } from "ioredis";
import { connect, Events, StringCodec } from "nats";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestEngine, type TestEngine } from "../src/index.ts";

describe("NATS users", () => {
  let nats: TestEngine;

  beforeAll(async () => {
    nats = await createTestEngine("nats");
  });
  afterAll(() => nats?.dispose());

  function as(service: string) {
    const { host, username, password } = new URL(nats.urlFor(service));
    return connect({
      servers: host,
      user: username,
      pass: password,
      reconnect: false,
      inboxPrefix: `_INBOX_${username}`,
    });
  }

  /** The server tells a violation in an asynchronous status. */
  async function violation(
    service: string,
    act: (connection: Awaited<ReturnType<typeof connect>>) => void,
  ): Promise<string> {
    const connection = await as(service);
    let seen = "none";
    (async () => {
      for await (const status of connection.status()) {
        if (status.type === Events.Error) seen = String(status.permissionContext?.operation);
      }
    })();
    act(connection);
    // The server answers in order: a violation comes before the flush's own answer.
    await connection.flush();
    await new Promise(setImmediate);
    await connection.close();
    return seen;
  }

  test("search may not publish a user's state, session not an analytics fact", async () => {
    const nothing = StringCodec().encode("{}");
    expect(await violation("search", (c) => c.publish("users.1", nothing))).toBe("publish");
    expect(await violation("session", (c) => c.publish("facts.track.x.-", nothing))).toBe("publish");
    expect(await violation("session", (c) => c.publish("facts.session.started.1", nothing))).toBe("none");
  });

  test("nobody may listen to another's answers or to the streams' subjects", async () => {
    expect(await violation("search", (c) => void c.subscribe("_INBOX_user.>"))).toBe("subscription");
    expect(await violation("analytics", (c) => void c.subscribe("users.*"))).toBe("subscription");
    expect(await violation("user", (c) => void c.subscribe("_INBOX_user.x"))).toBe("none");
  });

  test("the processes of a service may tell each other what they saw, and nobody else hears or says it", async () => {
    const nothing = StringCodec().encode("[]");
    expect(await violation("search", (c) => c.publish("activity.search", nothing))).toBe("none");
    expect(await violation("search", (c) => void c.subscribe("activity.search"))).toBe("none");
    expect(await violation("search", (c) => c.publish("activity.user", nothing))).toBe("publish");
    expect(await violation("user", (c) => void c.subscribe("activity.search"))).toBe("subscription");
    expect(await violation("user", (c) => void c.subscribe("activity.*"))).toBe("subscription");
  });

  test("only the user service may create or purge a stream", async () => {
    const nothing = StringCodec().encode("{}");
    expect(await violation("search", (c) => c.publish("$JS.API.STREAM.PURGE.USERS", nothing))).toBe("publish");
    const user = await as("user");
    const manager = await user.jetstreamManager({ checkAPI: false });
    await manager.streams.add({ name: "USERS", subjects: ["users.*"] });
    expect((await manager.streams.purge("USERS")).success).toBe(true);
    await user.close();
  });
});

test("PostgreSQL: user_service owns its database, may replicate, and sees no other database", async () => {
  const postgres = await createTestEngine("postgres");
  const url = postgres.urlFor("user");
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query(
    "SELECT current_setting('wal_level') AS wal, current_setting('fsync') AS fsync, rolreplication, rolsuper FROM pg_roles WHERE rolname = current_user",
  );
  expect(rows).toEqual([{ wal: "logical", fsync: "on", rolreplication: true, rolsuper: false }]);
  await client.query("SELECT pg_create_logical_replication_slot('probe', 'pgoutput')");
  await client.query("SELECT pg_drop_replication_slot('probe')");
  await client.end();
  const elsewhere = new pg.Client({ connectionString: url.replace("/quartet", "/postgres") });
  await expect(elsewhere.connect()).rejects.toThrow(/permission denied/);
  await postgres.dispose();
});

test("Redis: session_service cannot flush, configure or administer; every write is synced", async () => {
  const redis = await createTestEngine("redis");
  const client = new Redis(redis.urlFor("session"));
  for (const command of [["FLUSHALL"], ["CONFIG", "GET", "*"], ["ACL", "LIST"], ["SHUTDOWN"]] as const) {
    await expect(client.call(command[0], ...command.slice(1))).rejects.toThrow(/NOPERM/);
  }
  client.disconnect();
  const admin = new Redis(redis.url);
  expect(await admin.config("GET", "append*")).toEqual(
    expect.arrayContaining(["appendonly", "yes", "appendfsync", "always"]),
  );
  expect(await admin.config("GET", "maxmemory-policy")).toEqual(["maxmemory-policy", "noeviction"]);
  admin.disconnect();
  await redis.dispose();
});

test("ClickHouse: analytics_service has its database and those named analytics_..., default has nothing", async () => {
  const clickhouse = await createTestEngine("clickhouse");
  const service = createClient({ url: clickhouse.urlFor("analytics"), log: { level: ClickHouseLogLevel.OFF } });
  await service.command({ query: "CREATE DATABASE analytics_probe" });
  await service.command({ query: "DROP DATABASE analytics_probe" });
  await expect(service.command({ query: "CREATE DATABASE other" })).rejects.toThrow(/Not enough privileges/);
  await service.close();
  const nobody = createClient({
    url: `http://default@127.0.0.1:${clickhouse.port}`,
    log: { level: ClickHouseLogLevel.OFF },
  });
  await expect(nobody.command({ query: "CREATE TABLE analytics.x (a Int8) ENGINE = Memory" })).rejects.toThrow(
    /Not enough privileges/,
  );
  await nobody.close();
  await clickhouse.dispose();
});
