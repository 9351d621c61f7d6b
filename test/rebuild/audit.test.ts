import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "@clickhouse/client";
import { uuidv7 } from "@quartet/contracts";
import { Redis } from "ioredis";
import { describe, expect, it } from "vitest";
import { eventually, logIn, signUp } from "../lib/client.ts";
import { command } from "../lib/commands.ts";
import { client, home, runFile } from "../lib/system.ts";

type Secrets = Record<string, Record<string, string>>;
const secret = (engine: string) =>
  (JSON.parse(readFileSync(join(home as string, "credentials.json"), "utf8")) as Secrets)[engine]!.admin as string;
const port = (engine: string): number => runFile().engines[engine].port;

async function elastic(method: string, path: string, body?: unknown) {
  const response = await fetch(`http://127.0.0.1:${port("elasticsearch")}${path}`, {
    method,
    headers: {
      Authorization: `Basic ${Buffer.from(`admin:${secret("elasticsearch")}`).toString("base64")}`,
      "Content-Type": "application/json",
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: await response.json() };
}

describe.skipIf(!home)("what was changed by hand is found and put right", () => {
  it("documents, profiles and facts: deleted, altered, invented", async () => {
    const people = await Promise.all(Array.from({ length: 4 }, (_, i) => signUp(client, { bio: `hand ${i}` })));
    const [deleted, altered, kept, tracked] = people as [
      (typeof people)[0],
      (typeof people)[0],
      (typeof people)[0],
      (typeof people)[0],
    ];
    const { token } = await logIn(client, altered);
    const name = `hand.${deleted.handle}`;
    const { token: after } = await client.post(
      "/v1/track",
      { events: people.map(({ id }) => ({ name, userId: id, properties: { a: 1 } })) },
      { token: client.operatorToken },
    );
    await client.get("/v1/analytics/sessions", { after });
    await client.get("/v1/search?q=", { after: tracked.created });
    const clean = await command("audit").done;
    expect(clean.code, clean.output).toBe(0);

    const [stranger, nobody] = [uuidv7(), uuidv7()];
    // Elasticsearch
    expect((await elastic("DELETE", `/users/_doc/${deleted.id}?refresh=true`)).status).toBe(200);
    expect(
      (await elastic("POST", `/users/_update/${altered.id}?refresh=true`, { doc: { bio: "forged" } })).status,
    ).toBe(200);
    const forged = { id: stranger, deleted: false, handle: "forged_one", displayName: "Forged", bio: "", tags: [] };
    expect((await elastic("PUT", `/users/_doc/${stranger}?refresh=true`, forged)).status).toBe(201);
    expect((await elastic("PUT", "/users/_doc/no-uuid?refresh=true", { ...forged, id: "no-uuid" })).status).toBe(201);
    // Redis
    const redis = new Redis({ host: "127.0.0.1", port: port("redis"), username: "admin", password: secret("redis") });
    await redis.del(`profile:${deleted.id}`);
    await redis.hset(`profile:${altered.id}`, "displayName", "Forged");
    await redis.hset(`profile:${kept.id}`, "version", "not a number");
    await redis.hset(`profile:${nobody}`, {
      version: 1,
      revision: 1,
      handle: "forged",
      displayName: "Forged",
      epoch: 0,
    });
    // ClickHouse
    const clickhouse = createClient({
      url: `http://127.0.0.1:${port("clickhouse")}`,
      username: "analytics_service",
      password: (JSON.parse(readFileSync(join(home as string, "credentials.json"), "utf8")) as Secrets).clickhouse!
        .analytics_service as string,
      database: "analytics",
    });
    const run = (query: string) => clickhouse.command({ query, clickhouse_settings: { mutations_sync: "1" } });
    const total = async () => (await client.get(`/v1/analytics/events?name=${name}`)).body.total as number;
    await run(`ALTER TABLE facts DELETE WHERE name = '${name}' AND user_id = '${deleted.id}'`);
    await run(
      `ALTER TABLE facts UPDATE properties = map('a', '2') WHERE name = '${name}' AND user_id = '${altered.id}'`,
    );
    await run(
      `INSERT INTO facts SELECT * REPLACE (id + 1 AS id) FROM facts WHERE name = '${name}' AND user_id = '${kept.id}'`,
    );

    const audit = await command("audit").done;
    expect(audit.code, audit.output).toBe(0);
    for (const id of [deleted.id, altered.id, stranger]) expect(audit.output).toContain(`user ${id}`);
    expect(audit.output).toMatch(/analytics\t\d+\t3\t3\tclean/);

    expect((await client.get(`/v1/search?q=${deleted.handle}`)).body.hits[0]?.id).toBe(deleted.id);
    expect((await client.get(`/v1/search?q=${altered.handle}`)).body.hits[0]?.bio).toBe("hand 1");
    expect((await client.get("/v1/search?q=forged")).body.total).toBe(0);
    expect((await elastic("GET", "/users/_doc/no-uuid")).status).toBe(404);
    expect((await client.get("/v1/sessions/current", { token })).body.user.displayName).toBe(altered.displayName);
    expect(await redis.hget(`profile:${deleted.id}`, "handle")).toBe(deleted.handle);
    expect(await redis.hget(`profile:${kept.id}`, "version"), `${audit.output}\n${kept.id}`).toMatch(/^\d+$/);
    expect(await redis.hget(`profile:${nobody}`, "handle")).toBeNull();
    expect(await total()).toBe(4);
    const top = await client.get(`/v1/analytics/top?name=${name}&property=a`, { token: client.operatorToken });
    expect(top.body.values).toEqual([{ value: 1, count: 4 }]);
    redis.disconnect();
    await clickhouse.close();
  }, 180_000);

  it("says so, and fails, when a store cannot be compared", async () => {
    const { fault } = await import("../lib/faults.ts");
    const heal = await fault("redis", "freeze");
    try {
      const audit = await command("audit", "--timeout", "12").done;
      expect(audit.code).toBe(1);
      expect(audit.output).toMatch(/session\t-\t0\t0\tnot compared/);
    } finally {
      await heal();
    }
    await eventually("clean again", async () => (await command("audit").done).code === 0, 120_000);
  }, 240_000);
});
