import { createHash } from "node:crypto";

/** A user as a store holds it. */
export interface HeldUser {
  id: string;
  revision: number;
  /** Of what Search holds (id, handle, displayName, bio, country, tags, revision). */
  digest: string;
  /** Of what Session holds (id, handle, displayName, revision, credential epoch). */
  sessionDigest: string;
}

/** What the derived stores hold of a user. The digests are computed here and not by the services' own code: a mistake there must not hide itself. */
interface Profile {
  id: string;
  handle: string;
  displayName: string;
  bio: string;
  country: string | null;
  tags: string[];
  revision: number;
}

const digest = (parts: unknown[]): string => createHash("sha256").update(JSON.stringify(parts)).digest("hex");

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
  /** A statement of ClickHouse that answers nothing; returns when it is done. */
  clickhouseCommand(statement: string): Promise<void>;
  /** A POST unless told otherwise. */
  elasticsearch(path: string, body?: object, method?: "POST" | "PUT" | "DELETE"): Promise<Record<string, unknown>>;
}

export interface Stores {
  read(): Promise<StoreContents>;
  ask: Transport;
  close(): Promise<void>;
}

const NOBODY = "00000000-0000-0000-0000-000000000000";
const DUMP_PROFILES = `
local out, cursor = {}, '0'
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', 'profile:*', 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local p = redis.call('HMGET', key, 'revision', 'handle', 'displayName', 'epoch')
    if p[1] then out[#out + 1] = { string.sub(key, 9), p[1], p[2], p[3], p[4] } end
  end
until cursor == '0'
if #out == 0 then return '[]' end
return cjson.encode(out)`;

/** Reads all four stores through a transport. */
export async function readStores(ask: Transport): Promise<StoreContents> {
  const [users, profiles, documents, changes, keys, named, total] = await Promise.all([
    ask.sql("SELECT id, handle, display_name, bio, country, tags, revision, credential_epoch FROM users"),
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
    postgres: users.map((row) => {
      const profile = {
        ...(row as unknown as Profile),
        displayName: String(row.display_name),
        revision: Number(row.revision),
      };
      return held(profile, Number(row.credential_epoch));
    }),
    redis: (JSON.parse(profiles) as [string, string, string, string, string][]).map(
      ([id, revision, handle, name, epoch]) => ({
        id,
        revision: Number(revision),
        sessionDigest: digest([id, handle, name, Number(revision), Number(epoch)]),
      }),
    ),
    elasticsearch: documents.map((document) => held(document, 0)),
    clickhouse: {
      changes: changes as { user: string; facts: number }[],
      keys: keys.map((row) => String(row.k)),
      named: named as { user: string; facts: number }[],
      facts: Number(total[0]?.n ?? 0),
    },
  };
}

function held({ id, handle, displayName, bio, country, tags, revision }: Profile, epoch: number): HeldUser {
  return {
    id,
    revision,
    digest: digest([id, handle, displayName, bio, country, tags, revision]),
    sessionDigest: digest([id, handle, displayName, revision, epoch]),
  };
}

const PAGE = 5000;

async function documentsOf(ask: Transport): Promise<Profile[]> {
  const found: Profile[] = [];
  await ask.elasticsearch("/users/_refresh");
  for (let after: unknown[] | undefined; ; ) {
    const answer = await ask.elasticsearch("/users/_search", {
      size: PAGE,
      query: { term: { deleted: false } },
      sort: [{ id: "asc" }],
      ...(after ? { search_after: after } : {}),
    });
    const { hits } = answer.hits as { hits: { _id: string; _source: Profile; sort: unknown[] }[] };
    for (const hit of hits) {
      const { handle, displayName, bio, country = null, tags = [], revision } = hit._source;
      found.push({ id: hit._id, handle, displayName, bio, country, tags, revision });
    }
    if (hits.length < PAGE) return found;
    after = hits.at(-1)!.sort;
  }
}
