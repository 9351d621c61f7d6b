import { readRunFile } from "@quartet/cli/home";
import { loadCredentials } from "@quartet/engines";
import { Redis } from "ioredis";
import pg from "pg";
import { readStores, type Stores, type Transport } from "./stores.ts";

/** The stores of a local system, over their own ports with the administrator's passwords of its home. */
export function localStores(home: string): Stores {
  const credentials = loadCredentials(home);
  const portOf = (engine: string): number => readRunFile(home)!.engines[engine]!.port;
  const send = async (
    engine: "clickhouse" | "elasticsearch",
    path: string,
    body: string | null,
    type: string,
    method = "POST",
  ) => {
    const authorization = `Basic ${Buffer.from(`admin:${credentials[engine].admin}`).toString("base64")}`;
    const response = await fetch(`http://127.0.0.1:${portOf(engine)}${path}`, {
      method,
      headers: { authorization, "content-type": type },
      body,
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${engine} answers ${response.status}: ${text.slice(0, 300)}`);
    return text;
  };
  const transport: Transport = {
    async sql(statement) {
      const client = new pg.Client({
        host: "127.0.0.1",
        port: portOf("postgres"),
        user: "postgres",
        password: credentials.postgres.postgres,
        database: "quartet",
      });
      await client.connect();
      try {
        return (await client.query(statement)).rows;
      } finally {
        await client.end();
      }
    },
    async redis(script) {
      const redis = new Redis({
        host: "127.0.0.1",
        port: portOf("redis"),
        username: "admin",
        password: credentials.redis.admin,
        maxRetriesPerRequest: 1,
      });
      try {
        return String(await redis.eval(script, 0));
      } finally {
        redis.disconnect();
      }
    },
    async clickhouse(query) {
      const text = await send("clickhouse", "/", `${query} FORMAT JSONEachRow`, "text/plain");
      return text.split("\n").flatMap((line) => (line ? [JSON.parse(line) as Record<string, unknown>] : []));
    },
    async clickhouseCommand(statement) {
      await send("clickhouse", "/?mutations_sync=1", statement, "text/plain");
    },
    async elasticsearch(path, body, method) {
      return JSON.parse(
        await send("elasticsearch", path, body ? JSON.stringify(body) : null, "application/json", method),
      );
    },
  };
  return { read: () => readStores(transport), ask: transport, close: async () => {} };
}
