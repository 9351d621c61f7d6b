import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "@clickhouse/client";
import { kill, revive } from "@quartet/cli/control";
import { copyDatabase } from "@quartet/engines";
import { Redis } from "ioredis";
import pg from "pg";
import { describe, expect, it } from "vitest";
import { eventually, logIn, type Person, signUp } from "../lib/client.ts";
import { connectAsAdmin } from "../lib/nats.ts";
import { client, home, runFile } from "../lib/system.ts";

const password = (engine: string, name: string): string =>
  JSON.parse(readFileSync(join(home as string, "credentials.json"), "utf8"))[engine][name];
const port = (engine: string): number => runFile().engines[engine].port;
const postgresUrl = () =>
  `postgres://postgres:${encodeURIComponent(password("postgres", "postgres"))}@127.0.0.1:${port("postgres")}/quartet`;

/** How often each store, looked into from below, names a person; tombstones aside. */
const traces: Record<string, (person: Person) => Promise<number>> = {
  async user({ id, handle }) {
    const sql = new pg.Client({ connectionString: postgresUrl() });
    await sql.connect();
    try {
      const text = `SELECT (SELECT count(*) FROM users WHERE id = $1) + (SELECT count(*) FROM outbox WHERE payload LIKE '%' || $2 || '%') AS n`;
      return Number((await sql.query(text, [id, handle])).rows[0].n);
    } finally {
      await sql.end();
    }
  },
  async session({ handle }) {
    const redis = new Redis({ port: port("redis"), username: "admin", password: password("redis", "admin") });
    try {
      let n = 0;
      for await (const keys of redis.scanStream({ match: "*" }))
        for (const key of keys as string[])
          if ((await redis.type(key)) === "hash" && JSON.stringify(await redis.hgetall(key)).includes(handle)) n++;
      return n;
    } finally {
      redis.disconnect();
    }
  },
  async search({ handle }) {
    const authorization = `Basic ${Buffer.from(`admin:${password("elasticsearch", "admin")}`).toString("base64")}`;
    const url = `http://127.0.0.1:${port("elasticsearch")}/users/_search?q=${handle}`;
    const found = (await (await fetch(url, { headers: { authorization } })).json()) as {
      hits: { total: { value: number } };
    };
    return found.hits.total.value;
  },
  async analytics({ id }) {
    const clickhouse = createClient({
      url: `http://127.0.0.1:${port("clickhouse")}`,
      username: "analytics_service",
      password: password("clickhouse", "analytics_service"),
      database: "analytics",
    });
    try {
      const query = `SELECT count() AS n FROM facts WHERE user_id = toUUID('${id}')`;
      const rows = await (await clickhouse.query({ query, format: "JSONEachRow" })).json<{ n: string }>();
      return Number(rows[0]?.n);
    } finally {
      await clickhouse.close();
    }
  },
};
const everywhere = async (person: Person): Promise<Record<string, number>> =>
  Object.fromEntries(
    await Promise.all(Object.entries(traces).map(async ([store, look]) => [store, await look(person)])),
  );
const NOWHERE = { user: 0, session: 0, search: 0, analytics: 0 };

async function erase(person: Person): Promise<string> {
  const { erasureId } = (await client.delete(`/v1/users/${person.id}`, { token: client.operatorToken })).body;
  await eventually(
    "the erasure",
    async () => (await client.get(`/v1/erasures/${erasureId}`)).body.state === "complete",
  );
  return erasureId;
}

describe.skipIf(!home)("a restored database", () => {
  it("older than an erasure, with every stream gone, brings the person back into no store; the receipts are there", async () => {
    const [kept, erased] = [await signUp(client), await signUp(client)];
    const { token } = await logIn(client, erased);
    await client.post("/v1/track", { events: [{ name: "seen", userId: erased.id }] }, { token });
    await eventually("every store to have the person", async () =>
      Object.values(await everywhere(erased)).every((n) => n > 0),
    );
    const restore = await copyDatabase(postgresUrl());
    const late = await signUp(client);
    const receipts = [await erase(erased), await erase(late)];
    expect(await everywhere(erased)).toEqual(NOWHERE);

    await kill(home as string, "user", { hold: true });
    await restore();
    const nc = await connectAsAdmin();
    const jsm = await nc.jetstreamManager();
    for (const stream of ["USERS", "FACTS", "DEAD"]) await jsm.streams.delete(stream);
    await nc.close();
    revive(home as string, "user");

    await eventually("the kept one to be there again", async () => {
      const { body } = await client.get(`/v1/search?q=${kept.handle}`);
      return body.total === 1 && (await client.get(`/v1/users/${kept.id}`)).status === 200;
    });
    expect((await client.get(`/v1/users/${erased.id}`)).status).toBe(404);
    await eventually("the receipts", async () => {
      const bodies = await Promise.all(receipts.map(async (id) => (await client.get(`/v1/erasures/${id}`)).body));
      return bodies.every(({ id, state }, n) => id === receipts[n] && state === "complete");
    });
    // Everything that was restored has been said once more by now: what is behind it comes after it.
    const after = await signUp(client);
    expect((await client.get(`/v1/search?q=${after.handle}`, { after: after.created })).body.total).toBe(1);
    expect([await everywhere(erased), await everywhere(late)]).toEqual([NOWHERE, NOWHERE]);
    expect((await client.get("/v1/sessions/current", { token })).status).toBe(401);
  });
});
