import { type Outgoing, STREAMS } from "@quartet/contracts";
import { createTestEngine } from "@quartet/engines";
import { Redis } from "ioredis";
import type { NatsConnection } from "nats";
import { createClickHouse } from "../services/analytics/src/store/client.ts";
import { migrate } from "../services/analytics/src/store/migrations.ts";
import { connectElasticsearch } from "../services/search/src/store/client.ts";
import { ensureIndexes, indexNames, noteReplay } from "../services/search/src/store/indexes.ts";
import { fact, userState } from "./events.ts";
import { bulkBodies, bulkClickHouse, bulkElasticsearch, Http, pipelineRedis, rowBodies } from "./limits.ts";
import { type Comparison, compare, figure } from "./numbers.ts";
import { catchUp, forgetConsumer, startProjector } from "./projectors.ts";
import { connectTo, makeStream, publishRaw, pullRaw } from "./streams.ts";

export interface ProjectionBench {
  comparisons: Comparison[];
  /** What one process can take out of JetStream if it does nothing with it, messages per second. */
  consume: { stream: string; perSecond: number }[];
  versions: Record<string, string>;
}

interface Options {
  people: number;
  facts: number;
  rounds: number;
  untilMs: number;
}

interface Part {
  nc: NatsConnection;
  natsUrlFor(service: string): string;
  rounds: number;
  untilMs: number;
}

/** Peers that no projector asks. */
const NOBODY = "http://127.0.0.1:9";

/**
 * How fast each service's projector (the real process, with ROLE=projector) catches up with a stream that is there already, beside how fast its store
 * takes the same documents in bulk. Both go into an empty store.
 */
export async function benchProjection(options: Options): Promise<ProjectionBench> {
  const nats = await createTestEngine("nats");
  const nc = await connectTo(nats.url);
  const states = Array.from({ length: options.people }, (_, i) => userState(i));
  const people = states.map(({ key }) => key!);
  const facts = Array.from({ length: options.facts }, (_, i) => fact(i, people));
  try {
    const { USERS, FACTS, DEAD } = STREAMS;
    await makeStream(nc, USERS.name, [...USERS.subjects], true);
    await makeStream(nc, FACTS.name, [...FACTS.subjects], false);
    await makeStream(nc, DEAD.name, [...DEAD.subjects], false);
    const words = ({ subject, event }: Outgoing) => ({ subject, payload: JSON.stringify(event) });
    await publishRaw(nc, states.map(words));
    await publishRaw(nc, facts.map(words));
    const consume: ProjectionBench["consume"] = [];
    for (const [stream, total] of [
      [USERS.name, states.length],
      [FACTS.name, facts.length],
    ] as const) {
      const perSecond = await pullRaw(nc, stream, total);
      console.error(`  ${stream} pulled and acknowledged, nothing else: ${figure(perSecond)} messages/s`);
      consume.push({ stream, perSecond });
    }
    const started = performance.now();
    const share = (part: number) => started + ((options.untilMs - started) * part) / 3;
    const common = { nc, natsUrlFor: (service: string) => nats.urlFor(service), rounds: options.rounds };
    const search = await benchSearch(states, { ...common, untilMs: share(1) });
    const session = await benchSession(states, { ...common, untilMs: share(2) });
    const analytics = await benchAnalytics(facts, { ...common, untilMs: share(3) });
    return {
      comparisons: [search.comparison, session.comparison, analytics.comparison],
      consume,
      versions: {
        NATS: nc.info?.version ?? "?",
        Elasticsearch: search.version,
        Redis: session.version,
        ClickHouse: analytics.version,
      },
    };
  } finally {
    await nc.close().catch(() => {});
    await nats.dispose();
  }
}

async function benchSearch(states: Outgoing[], part: Part) {
  const engine = await createTestEngine("elasticsearch");
  const client = connectElasticsearch(engine.url, 60_000);
  try {
    const http = new Http(engine.url);
    const nodes = JSON.parse(await http.send("GET", "/_nodes/_local?filter_path=nodes.*.version"));
    const version = (Object.values(nodes.nodes as Record<string, { version: string }>)[0] as { version: string })
      .version;
    const settings = { replicas: 0, refreshInterval: "250ms" };
    const bodies = bulkBodies(states);
    const messages = states.length;
    const comparison = await compare(
      { what: "Search: USERS into Elasticsearch", unit: "docs/s", limit: "_bulk, same index settings" },
      part.rounds,
      part.untilMs,
      {
        async measured() {
          await client.indices.delete({ index: "users-v3", ignore_unavailable: true });
          await ensureIndexes(client, { names: indexNames(""), ...settings });
          // Else the service would begin with making its consumer anew.
          await noteReplay(client, "users-v3");
          return project("search", "USERS", messages, part, {
            ELASTICSEARCH_URL: engine.urlFor("search"),
          });
        },
        async raw() {
          await client.indices.delete({ index: "raw-users-v3", ignore_unavailable: true });
          await ensureIndexes(client, { names: indexNames("raw"), ...settings });
          return bulkElasticsearch(http, "raw-users-v3", bodies, messages);
        },
      },
    );
    return { comparison, version };
  } finally {
    await client.close();
    await engine.dispose();
  }
}

async function benchSession(states: Outgoing[], part: Part) {
  const engine = await createTestEngine("redis");
  const admin = new Redis(engine.url);
  admin.on("error", () => {});
  try {
    const version = /redis_version:(\S+)/.exec(await admin.info("server"))?.[1] ?? "?";
    const messages = states.length;
    const comparison = await compare(
      { what: "Session: USERS into Redis", unit: "profiles/s", limit: "HSET + SADD, pipelined" },
      part.rounds,
      part.untilMs,
      {
        async measured() {
          await admin.flushall();
          return project("session", "USERS", messages, part, {
            REDIS_URL: engine.urlFor("session"),
            USER_URL: NOBODY,
          });
        },
        async raw() {
          await admin.flushall();
          return pipelineRedis(engine.url, states);
        },
      },
    );
    return { comparison, version };
  } finally {
    admin.disconnect();
    await engine.dispose();
  }
}

async function benchAnalytics(facts: Outgoing[], part: Part) {
  const engine = await createTestEngine("clickhouse");
  const url = engine.urlFor("analytics");
  const store = createClickHouse({
    url,
    timeoutMs: 10_000,
    lanes: { small: 1, heavy: 1 },
    maxMemoryBytes: 512 * 1024 * 1024,
  });
  try {
    await migrate(store);
    await store.execute("CREATE TABLE IF NOT EXISTS raw_facts AS facts");
    const [row] = await store.read<{ version: string }>("SELECT version() AS version");
    const http = new Http(engine.url);
    const table = `${store.database}.raw_facts`;
    const bodies = await rowBodies(facts);
    const messages = facts.length;
    const comparison = await compare(
      {
        what: "Analytics: FACTS into ClickHouse",
        unit: "rows/s",
        limit: "INSERT JSONCompactEachRow, same table settings",
      },
      part.rounds,
      part.untilMs,
      {
        async measured() {
          await store.execute("TRUNCATE TABLE facts");
          return project("analytics", "FACTS", messages, part, { CLICKHOUSE_URL: url });
        },
        async raw() {
          await store.execute("TRUNCATE TABLE raw_facts");
          return bulkClickHouse(http, table, bodies, messages);
        },
      },
    );
    return { comparison, version: row?.version ?? "?" };
  } finally {
    await store.close();
    await engine.dispose();
  }
}

/** Starts the projector on a stream that it has not seen yet, and stops it when it has. Returns messages per second. */
async function project(
  service: "search" | "session" | "analytics",
  stream: "USERS" | "FACTS",
  messages: number,
  { nc, natsUrlFor }: Part,
  env: Record<string, string>,
): Promise<number> {
  await forgetConsumer(nc, stream, service);
  const projector = startProjector(service, { NATS_URL: natsUrlFor(service), ...env });
  try {
    return await catchUp(nc, { stream, consumer: service, messages }, projector);
  } finally {
    await projector.stop();
  }
}
