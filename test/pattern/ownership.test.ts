import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "@clickhouse/client";
import { Redis } from "ioredis";
import { connect } from "nats";
import pg from "pg";
import { describe, expect, it } from "vitest";
import { home, runFile } from "../lib/system.ts";

type Secrets = Record<string, Record<string, string>>;
const secrets = (): Secrets => JSON.parse(readFileSync(join(home as string, "credentials.json"), "utf8"));
const port = (engine: string): number => runFile().engines[engine].port;

/** Tries to get into each engine with a name and a password; resolves if it lets them in and they read something. */
const doors: Record<string, (user: string, password: string) => Promise<unknown>> = {
  async postgres(user, password) {
    const c = new pg.Client({ host: "127.0.0.1", port: port("postgres"), database: "quartet", user, password });
    c.on("error", () => {});
    await c.connect();
    try {
      return await c.query("SELECT count(*) FROM users");
    } finally {
      await c.end();
    }
  },
  async redis(user, password) {
    const r = new Redis({
      host: "127.0.0.1",
      port: port("redis"),
      username: user,
      password,
      lazyConnect: true,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
    });
    r.on("error", () => {});
    try {
      await r.connect();
      return await r.dbsize();
    } finally {
      r.disconnect();
    }
  },
  async clickhouse(user, password) {
    const c = createClient({
      url: `http://127.0.0.1:${port("clickhouse")}`,
      username: user,
      password,
      database: "analytics",
    });
    try {
      return await (await c.query({ query: "SELECT count() FROM facts" })).text();
    } finally {
      await c.close();
    }
  },
};

const owner: Record<string, [service: string, account: string]> = {
  postgres: ["user", "user_service"],
  redis: ["session", "session_service"],
  clickhouse: ["analytics", "analytics_service"],
};

describe.skipIf(!home)("each database answers its own service alone", () => {
  for (const [engine, [service, account]] of Object.entries(owner)) {
    it(`${engine} lets ${service} in`, async () => {
      await doors[engine]!(account, secrets()[engine]![account] as string);
    });
    const strangers: [string, string, string][] = [
      ...Object.entries(owner)
        .filter(([e]) => e !== engine)
        .map(([e, [s, a]]) => [s, a, e] as [string, string, string]),
      ["search", "search_service", "elasticsearch"],
    ];
    it.each(strangers)(`${engine} refuses %s`, async (_service, strange, theirEngine) => {
      const password = secrets()[theirEngine]![strange] as string;
      await expect(doors[engine]!(strange, password)).rejects.toThrow();
      // Not even under the owner's name.
      await expect(doors[engine]!(account, password)).rejects.toThrow();
    });
    it(`${engine} refuses a stranger without a password`, async () => {
      await expect(doors[engine]!(account, "")).rejects.toThrow();
      await expect(doors[engine]!("default", "")).rejects.toThrow();
    });
  }
});

describe.skipIf(!home)("NATS lets each service say only its own", () => {
  const foreign: Record<string, string[]> = {
    session: [
      "users.x",
      "facts.user.created.x",
      "facts.track.a.-",
      "heartbeat.users.user",
      "activity.user",
      "$JS.API.STREAM.PURGE.FACTS",
    ],
    analytics: [
      "users.x",
      "facts.user.created.x",
      "facts.session.started.x",
      "heartbeat.facts.session",
      "activity.search",
      "$JS.API.STREAM.DELETE.FACTS",
    ],
    search: [
      "users.x",
      "facts.track.a.-",
      "dead.analytics.-",
      "activity.analytics",
      "$JS.API.STREAM.PURGE.USERS",
      "$JS.API.CONSUMER.DELETE.FACTS.analytics",
    ],
    user: [
      "facts.session.started.x.y",
      "activity.session",
      "$JS.API.STREAM.DELETE.USERS",
      "$JS.API.CONSUMER.DELETE.USERS.search",
    ],
  };
  it.each(Object.entries(foreign))("%s", async (service, subjects) => {
    const pass = secrets().nats![service] as string;
    const options = { servers: `127.0.0.1:${port("nats")}`, user: service, pass, inboxPrefix: `_INBOX_${service}` };
    for (const subject of subjects) {
      const nc = await connect(options);
      const refused = (async () => {
        for await (const s of nc.status())
          if (s.type === "error" && String(s.data).includes("PERMISSIONS")) return true;
        return false;
      })();
      nc.publish(subject, "{}");
      await nc.flush();
      const timeout = new Promise<false>((done) => setTimeout(() => done(false), 5000).unref());
      expect(await Promise.race([refused, timeout]), `${service} says ${subject}`).toBe(true);
      await nc.close();
    }
    const nc = await connect(options);
    const other = service === "user" ? "session" : "user";
    for (const subject of [`_INBOX_${other}.>`, `activity.${other}`]) {
      const closed = nc.subscribe(subject).closed.then(
        () => true,
        () => true,
      );
      await nc.flush();
      const timeout = new Promise<false>((done) => setTimeout(() => done(false), 5000).unref());
      expect(await Promise.race([closed, timeout]), `${service} hears ${subject}`).toBe(true);
    }
    await nc.close();
  });
  it("refuses who has no password", async () => {
    await expect(connect({ servers: `127.0.0.1:${port("nats")}`, reconnect: false })).rejects.toThrow();
  });
});
