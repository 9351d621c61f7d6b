import { type DigestedProfile, profileDigest, sessionProfileDigest } from "@quartet/contracts";

/** A user as a store holds it. */
export interface HeldUser {
  id: string;
  revision: number;
  /** Of what Search holds (id, handle, displayName, bio, country, tags, revision). */
  digest: string;
  /** Of what Session holds (id, handle, displayName, revision). */
  sessionDigest: string;
}

/** What each store holds, read from the store itself and not through its service. */
export interface StoreContents {
  postgres: HeldUser[];
  redis: { id: string; revision: number; sessionDigest: string }[];
  elasticsearch: HeldUser[];
  clickhouse: {
    /** Facts that created or updated a user: one per revision. */
    changes: { user: string; facts: number }[];
    /** Keys of all facts of a kind other than `user`, as decimal numbers (first 128 bits of SHA-256 of the fact id). */
    keys: string[];
    /** How many facts name a person, by user id. */
    named: { user: string; facts: number }[];
    /** All facts. */
    facts: number;
  };
}

/** Ways to ask each store, with every right. */
export interface Transport {
  sql(statement: string): Promise<Record<string, unknown>[]>;
  /** Runs a Lua script that returns JSON. */
  redis(script: string): Promise<string>;
  /** Rows of a SELECT. */
  clickhouse(query: string): Promise<Record<string, unknown>[]>;
  elasticsearch(path: string, body: object): Promise<Record<string, unknown>>;
}

export interface Stores {
  read(): Promise<StoreContents>;
  close(): Promise<void>;
}

const NOBODY = "00000000-0000-0000-0000-000000000000";
const DUMP_PROFILES = `
local out, cursor = {}, '0'
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', 'profile:*', 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local p = redis.call('HMGET', key, 'revision', 'handle', 'displayName')
    if p[1] then out[#out + 1] = { string.sub(key, 9), p[1], p[2], p[3] } end
  end
until cursor == '0'
if #out == 0 then return '[]' end
return cjson.encode(out)`;

/** Reads all four stores through a transport. */
export async function readStores(ask: Transport): Promise<StoreContents> {
  const [users, profiles, documents, changes, keys, named, total] = await Promise.all([
    ask.sql("SELECT id, handle, display_name, bio, country, tags, revision FROM users"),
    ask.redis(DUMP_PROFILES),
    documentsOf(ask),
    ask.clickhouse(
      `SELECT toString(user_id) AS user, toUInt32(count()) AS facts FROM analytics.facts FINAL
       WHERE kind = 'user' AND name IN ('created', 'updated') AND user_id != toUUID('${NOBODY}') GROUP BY user_id`,
    ),
    ask.clickhouse("SELECT toString(id) AS k FROM analytics.facts FINAL WHERE kind != 'user'"),
    ask.clickhouse(
      `SELECT toString(user_id) AS user, toUInt32(count()) AS facts FROM analytics.facts
       WHERE user_id != toUUID('${NOBODY}') GROUP BY user_id`,
    ),
    ask.clickhouse("SELECT toUInt32(count()) AS n FROM analytics.facts FINAL"),
  ]);
  return {
    postgres: users.map((row) =>
      held({
        ...(row as unknown as DigestedProfile),
        displayName: String(row.display_name),
        revision: Number(row.revision),
      }),
    ),
    redis: (JSON.parse(profiles) as [string, string, string, string][]).map(([id, revision, handle, displayName]) => ({
      id,
      revision: Number(revision),
      sessionDigest: sessionProfileDigest({ id, handle, displayName, revision: Number(revision) }),
    })),
    elasticsearch: documents.map(held),
    clickhouse: {
      changes: changes as { user: string; facts: number }[],
      keys: keys.map((row) => String(row.k)),
      named: named as { user: string; facts: number }[],
      facts: Number(total[0]?.n ?? 0),
    },
  };
}

function held(profile: DigestedProfile): HeldUser {
  const { id, revision } = profile;
  return { id, revision, digest: profileDigest(profile), sessionDigest: sessionProfileDigest(profile) };
}

const PAGE = 5000;

async function documentsOf(ask: Transport): Promise<DigestedProfile[]> {
  const found: DigestedProfile[] = [];
  await ask.elasticsearch("/users/_refresh", {});
  for (let after: unknown[] | undefined; ; ) {
    const answer = await ask.elasticsearch("/users/_search", {
      size: PAGE,
      query: { term: { deleted: false } },
      sort: [{ id: "asc" }],
      ...(after ? { search_after: after } : {}),
    });
    const { hits } = answer.hits as { hits: { _id: string; _source: DigestedProfile; sort: unknown[] }[] };
    for (const hit of hits) {
      const { handle, displayName, bio, country = null, tags = [], revision } = hit._source;
      found.push({ id: hit._id, handle, displayName, bio, country, tags, revision });
    }
    if (hits.length < PAGE) return found;
    after = hits.at(-1)!.sort;
  }
}
