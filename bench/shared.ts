import { activity, person } from "@quartet/cli/seed";
import { type EventOf, emit, makeVersion, type UserEvent, uuidv7 } from "@quartet/contracts";
import { createTestEngine } from "@quartet/engines";
import pg from "pg";
import { createClickHouse } from "../services/analytics/src/store/client.ts";
import { type Fact, insertFacts } from "../services/analytics/src/store/facts.ts";
import { migrate } from "../services/analytics/src/store/migrations.ts";
import { activeUsers, funnel } from "../services/analytics/src/store/queries.ts";
import { connectElasticsearch } from "../services/search/src/store/client.ts";
import { ensureIndexes, indexNames } from "../services/search/src/store/indexes.ts";
import { firstPage } from "../services/search/src/store/search.ts";
import { createStore } from "../services/search/src/store/store.ts";
import { refresh, writeUsers } from "../services/search/src/store/users.ts";
import { createProfiles } from "../services/session/src/store/profiles.ts";
import { connectRedis } from "../services/session/src/store/redis.ts";
import { createSessions, tokenHash } from "../services/session/src/store/sessions.ts";
import { percentile } from "./numbers.ts";

type State = EventOf<"quartet.user.state.v1">;

/** One question, asked of the store that was chosen for it and of the shared PostgreSQL. Milliseconds. */
export interface Answered {
  question: string;
  store: string;
  own: { p50: number; p99: number };
  shared: { p50: number; p99: number };
  asked: number;
}

export interface SharedBench {
  answers: Answered[];
  versions: Record<string, string>;
}

interface Options {
  people: number;
  eventsEach: number;
  /** Times that each cheap question is asked; the two of Analytics an eighth of that. */
  times: number;
}

/** The shared database: what one team would write. The indexes are those that the questions want, and no more. */
const SCHEMA = `
CREATE EXTENSION pg_trgm; CREATE EXTENSION unaccent;
CREATE FUNCTION folded(text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT lower(public.unaccent('public.unaccent', $1)) $$;
CREATE TABLE users (id uuid PRIMARY KEY, handle text UNIQUE NOT NULL, display_name text NOT NULL, bio text NOT NULL, country text, tags text[] NOT NULL,
  words text GENERATED ALWAYS AS (folded(handle || ' ' || display_name)) STORED);
CREATE INDEX ON users USING gin (words gin_trgm_ops);
CREATE TABLE sessions (id uuid PRIMARY KEY, token_hash text UNIQUE NOT NULL, user_id uuid NOT NULL REFERENCES users, last_seen_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL);
CREATE TABLE events (id text PRIMARY KEY, name text NOT NULL, user_id uuid, occurred_at timestamptz NOT NULL, properties jsonb NOT NULL);
CREATE INDEX ON events (occurred_at); CREATE INDEX ON events (name, occurred_at);`;

const SEED = 7;
/** Sessions that are used again and again, as sessions are: both sides write a use down only every ten seconds. */
const IN_USE = 50;
const WARM_UP_MS = 3_000;
const WITHIN_MS = 7 * 86_400_000;

/** What is asked for: a family name with a letter missing or two swapped, as people type. */
function mistyped(name: string, i: number): string {
  const word = name.split(/[ -]/).at(-1) ?? name;
  if (word.length < 5) return word;
  const at = 2 + (i % (word.length - 3));
  return i % 2 === 0
    ? word.slice(0, at) + word.slice(at + 1)
    : word.slice(0, at) + word[at + 1] + word[at] + word.slice(at + 2);
}

/** Asks both sides in turns, so that a slow moment of the machine hits both, after some seconds in which all code has run and all pages were read. */
async function ask(
  about: Pick<Answered, "question" | "store">,
  times: number,
  own: (i: number) => Promise<unknown>,
  shared: (i: number) => Promise<unknown>,
): Promise<Answered> {
  const took = { own: [] as number[], shared: [] as number[] };
  const warm = performance.now() + WARM_UP_MS;
  for (let i = 0; performance.now() < warm; i++) {
    await own(i);
    await shared(i);
  }
  for (let i = 0; i < times; i++) {
    for (const [side, question] of i % 2 === 0
      ? ([
          ["own", own],
          ["shared", shared],
        ] as const)
      : ([
          ["shared", shared],
          ["own", own],
        ] as const)) {
      const started = performance.now();
      await question(i);
      took[side].push(performance.now() - started);
    }
  }
  const of = (values: number[]) => ({ p50: percentile(values, 0.5), p99: percentile(values, 0.99) });
  const answered = { ...about, own: of(took.own), shared: of(took.shared), asked: took.own.length };
  console.error(
    `  ${about.question} ${about.store} ${answered.own.p50.toFixed(2)} ms, shared ${answered.shared.p50.toFixed(2)} ms (p50 of ${answered.asked})`,
  );
  return answered;
}

/**
 * The same four questions of the store that was chosen for each (by the very code of its service) and of one PostgreSQL that holds all of it, with the
 * memory of the others added to its buffers: what the right database for the job buys, and where it buys nothing.
 */
export async function benchShared(options: Options): Promise<SharedBench> {
  const engines = await Promise.all(
    (["postgres", "redis", "clickhouse", "elasticsearch"] as const).map((name) => createTestEngine(name)),
  );
  const [postgres, redisEngine, clickhouseEngine, elasticsearch] = engines as [
    (typeof engines)[number],
    (typeof engines)[number],
    (typeof engines)[number],
    (typeof engines)[number],
  ];
  const closing: (() => unknown)[] = [];
  try {
    const setup = new pg.Client({ connectionString: postgres.url });
    await setup.connect();
    await setup.query("ALTER SYSTEM SET shared_buffers = '1GB'");
    await setup.end();
    await postgres.stop();
    await postgres.start();
    const db = new pg.Client({ connectionString: postgres.url });
    await db.connect();
    closing.push(() => db.end());
    await db.query(SCHEMA);
    await db.query("SET work_mem = '128MB'");

    // The same people and events into all of them.
    const now = Date.now();
    const today = Math.floor(now / 86_400_000) * 86_400_000;
    const at = new Date(now).toISOString();
    const states = Array.from({ length: options.people }, (_, i): State => {
      const { handle, displayName, bio = "", country = null, tags = [] } = person(SEED, i);
      const profile = { handle: handle!, displayName, bio, country, tags: [...tags] };
      const rest = { revision: 1, createdAt: at, updatedAt: at, credentialEpoch: 0, keptSessionId: null };
      return emit.userState({ id: uuidv7(), ...profile, ...rest }, makeVersion(1, 1), { time: new Date(now) })
        .event as State;
    });
    const ids = states.map((state) => state.data.id);
    for (const some of chunks(
      states.map(({ data }) => data),
      2_000,
    )) {
      await db.query(
        `INSERT INTO users (id, handle, display_name, bio, country, tags)
         SELECT (u->>'id')::uuid, u->>'handle', u->>'displayName', u->>'bio', u->>'country', ARRAY(SELECT jsonb_array_elements_text(u->'tags')) FROM jsonb_array_elements($1::jsonb) u`,
        [JSON.stringify(some)],
      );
    }

    const es = connectElasticsearch(elasticsearch.url, 60_000);
    closing.push(() => es.close());
    const names = indexNames("");
    await ensureIndexes(es, { names, replicas: 0, refreshInterval: "250ms" });
    for (const some of chunks(states as UserEvent[], 2_000)) await writeUsers(es, names, some);
    await refresh(es, names);
    const search = createStore(es, es, names);

    const redis = connectRedis(redisEngine.url, 10_000, () => {});
    closing.push(() => redis.redis.disconnect());
    for (let i = 0; redis.redis.status !== "ready" && i < 500; i++) await new Promise((go) => setTimeout(go, 10));
    const profiles = createProfiles(redis);
    for (const some of chunks(states as UserEvent[], 1_000)) await profiles.apply(some);
    const sessions = createSessions(redis.run, { ttlMs: 86_400_000, maxMs: 30 * 86_400_000, perUser: 100 });
    const tokens: string[] = [];
    for (const [i, { data }] of states.slice(0, 5_000).entries()) {
      const user = { ...data, userId: data.id, version: makeVersion(1, 1) };
      const made = await sessions.create(user, undefined, { own: `bench:${i}`, name: `bench:${i}` }, "");
      if (made.outcome !== "created") throw new Error("no session was made");
      tokens.push(made.token);
      await db.query("INSERT INTO sessions VALUES ($1, $2, $3, now(), now() + interval '1 day')", [
        made.session.id,
        tokenHash(made.token),
        data.id,
      ]);
    }

    const clickhouse = createClickHouse({
      url: clickhouseEngine.urlFor("analytics"),
      timeoutMs: 30_000,
      lanes: { small: 1, heavy: 1 },
      maxMemoryBytes: 512 * 1024 * 1024,
    });
    closing.push(() => clickhouse.close());
    await migrate(clickhouse);
    let sequence = 0;
    const facts: Fact[] = [];
    const flush = async () => {
      await insertFacts(clickhouse, facts);
      await db.query(
        `INSERT INTO events SELECT e->>'id', e->>'name', (e->>'userId')::uuid, to_timestamp((e->>'occurredAt')::float8 / 1000), e->'properties' FROM jsonb_array_elements($1::jsonb) e`,
        [
          JSON.stringify(
            facts.map(({ id, name, userId, occurredAt, properties }) => ({ id, name, userId, occurredAt, properties })),
          ),
        ],
      );
      facts.length = 0;
    };
    for (const [i, id] of ids.entries()) {
      for (const event of activity(SEED, i, options.eventsEach, id, today)) {
        facts.push({
          id: `t:${event.id}`,
          kind: "track",
          name: event.name,
          userId: id,
          occurredAt: Date.parse(event.occurredAt!),
          properties: event.properties ?? {},
          acceptedAt: BigInt(now) * 1_000_000n,
          sequence: ++sequence,
        });
      }
      if (facts.length >= 10_000) await flush();
    }
    if (facts.length > 0) await flush();
    await db.query("VACUUM ANALYZE");
    console.error(`  ${states.length} people, ${sequence} events and ${tokens.length} sessions are in both`);

    const person1 = (i: number) => states[(i * 7919) % states.length]!.data;
    const own = new pg.Client({ connectionString: postgres.url });
    await own.connect();
    closing.push(() => own.end());
    const byId = "SELECT id, handle, display_name, bio, country, tags FROM users WHERE id = $1";
    const range = { from: today - 28 * 86_400_000, to: today };
    const rare = Math.max(5, Math.floor(options.times / 8));
    const steps = ["visit", "search", "profile.view", "purchase"];
    const answers = [
      await ask(
        { question: "Who is this? (one person by id)", store: "PostgreSQL" },
        options.times,
        (i) => own.query({ name: "by-id", text: byId, values: [person1(i).id] }),
        (i) => db.query({ name: "by-id", text: byId, values: [person1(i).id] }),
      ),
      await ask(
        { question: "Whose token is this, and what is their name?", store: "Redis" },
        options.times,
        async (i) => {
          const found = await sessions.introspect(tokens[i % IN_USE]!);
          await sessions.current(found!.sessionId, found!.userId);
        },
        (i) =>
          db.query({
            name: "whose",
            text: `WITH used AS (UPDATE sessions SET last_seen_at = now() WHERE token_hash = $1 AND expires_at > now() AND last_seen_at < now() - interval '10 s')
              SELECT s.id, s.last_seen_at, s.expires_at, u.id, u.handle, u.display_name FROM sessions s JOIN users u ON u.id = s.user_id
              WHERE token_hash = $1 AND expires_at > now()`,
            values: [tokenHash(tokens[i % IN_USE]!)],
          }),
      ),
      await ask(
        {
          question: "Who is called something like this? (mistyped, the best 20 with the exact total and facets)",
          store: "Elasticsearch",
        },
        options.times,
        (i) => firstPage(search, { q: mistyped(person1(i).displayName, i), country: undefined, tag: [], limit: 20 }),
        (i) =>
          db.query({
            name: "like",
            text: `WITH found AS MATERIALIZED (SELECT id, handle, display_name, bio, country, tags, word_similarity(folded($1), words) AS score FROM users WHERE folded($1) <% words)
              SELECT (SELECT jsonb_agg(top) FROM (SELECT * FROM found ORDER BY score DESC, id DESC LIMIT 20) top), (SELECT count(*) FROM found),
                (SELECT jsonb_object_agg(country, n) FROM (SELECT country, count(*) AS n FROM found GROUP BY country) c),
                (SELECT jsonb_object_agg(tag, n) FROM (SELECT tag, count(*) AS n FROM found, unnest(tags) tag GROUP BY tag) t)`,
            values: [mistyped(person1(i).displayName, i)],
          }),
      ),
      await ask(
        { question: "How many different people were active on each of 28 days?", store: "ClickHouse" },
        rare,
        () => activeUsers(clickhouse.questionsOf({ client: "bench" }), "day", range),
        () =>
          db.query(
            "SELECT date_trunc('day', occurred_at) AS day, count(DISTINCT user_id) FROM events WHERE occurred_at >= to_timestamp($1) AND occurred_at < to_timestamp($2) AND user_id IS NOT NULL GROUP BY day ORDER BY day",
            [range.from / 1000, range.to / 1000],
          ),
      ),
      await ask(
        { question: "How many went from visit to purchase in four steps within a week?", store: "ClickHouse" },
        rare,
        () => funnel(clickhouse.questionsOf({ client: "bench" }), steps, WITHIN_MS / 1000, range),
        () =>
          db.query(
            `WITH e AS MATERIALIZED (SELECT user_id, name, occurred_at FROM events WHERE name = ANY($1) AND user_id IS NOT NULL AND occurred_at >= to_timestamp($2) AND occurred_at < to_timestamp($3)),
              a AS (SELECT user_id, occurred_at AS first, occurred_at AS at FROM e WHERE name = $1[1]),
              b AS (SELECT a.user_id, max(a.first) AS first, e.occurred_at AS at FROM a JOIN e ON e.user_id = a.user_id AND e.name = $1[2] AND e.occurred_at > a.at AND e.occurred_at <= a.first + interval '7 days' GROUP BY 1, 3),
              c AS (SELECT b.user_id, max(b.first) AS first, e.occurred_at AS at FROM b JOIN e ON e.user_id = b.user_id AND e.name = $1[3] AND e.occurred_at > b.at AND e.occurred_at <= b.first + interval '7 days' GROUP BY 1, 3),
              d AS (SELECT DISTINCT c.user_id FROM c JOIN e ON e.user_id = c.user_id AND e.name = $1[4] AND e.occurred_at > c.at AND e.occurred_at <= c.first + interval '7 days')
              SELECT (SELECT count(DISTINCT user_id) FROM a), (SELECT count(DISTINCT user_id) FROM b), (SELECT count(DISTINCT user_id) FROM c), (SELECT count(*) FROM d)`,
            [steps, range.from / 1000, range.to / 1000],
          ),
      ),
    ];
    const version = (await db.query("SHOW server_version")).rows[0].server_version as string;
    return { answers, versions: { PostgreSQL: version.split(" ")[0]! } };
  } finally {
    for (const close of closing.reverse()) await Promise.resolve(close()).catch(() => {});
    await Promise.all(engines.map((engine) => engine.dispose()));
  }
}

function chunks<T>(items: T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}
