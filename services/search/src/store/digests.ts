import type { Client, estypes } from "@elastic/elasticsearch";
import { auditBucket, BucketDigest, profileDigest } from "@quartet/contracts";
import { whole } from "./client.ts";
import type { IndexNames } from "./indexes.ts";
import { livingUsers } from "./query.ts";
import { readWatermark, refresh, type UserDocument, WATERMARK_IDS } from "./users.ts";

const PAGE = 1000;
const BUCKETS = 256;
const WALK_ALL_EVERY_MS = 10 * 60_000;
const KEEP_ALIVE = "1m";

export interface BucketDigests {
  /** They show everything committed before; null while unknown. */
  asOf: string | null;
  buckets: { count: number; digest: string }[];
}

export interface AuditedUser {
  id: string;
  digest: string;
  version: number;
}

type Hit = estypes.SearchHit<UserDocument>;

/**
 * Digests of what the index holds, computed from the documents themselves. The first call walks the whole index; a later one reads only documents
 * with a new sequence number, which every change of a document gets, one made by hand too. A document that vanished has none: the count of
 * its bucket tells, and that bucket is read again. Every ten minutes, and for another index, all is walked anew.
 */
export interface Digests {
  /** Calls at the same time share one computation. */
  all(): Promise<BucketDigests>;
  /** The users of one bucket, as they are now. */
  bucket(bucket: number): Promise<AuditedUser[]>;
}

export function createDigests(client: Client, names: IndexNames): Digests {
  let buckets: Map<string, Held>[] = [];
  /** Somebody has written these by hand: without a bucket or with another one. Nobody finds them by their bucket. */
  let odd = new Map<string, Hit>();
  let values: ({ count: number; digest: string } | undefined)[] = [];
  let seen = -1;
  let index = "";
  let walkedAt = 0;
  let running: Promise<BucketDigests> | undefined;

  const take = (hit: Hit): void => {
    const id = hit._id as string;
    const bucket = auditBucket(id);
    seen = Math.max(seen, hit._seq_no ?? -1);
    const { deleted, bucket: said } = hit._source ?? {};
    const living = deleted !== true;
    if (living && (deleted !== false || said !== bucket || !isUuid(id))) odd.set(id, hit);
    else odd.delete(id);
    if (!(bucket >= 0 && bucket < BUCKETS)) return;
    if (living && !odd.has(id)) buckets[bucket]!.set(id, heldAs(hit));
    else buckets[bucket]!.delete(id);
    values[bucket] = undefined;
  };

  /** What cannot have come from any event goes at once; of the others those that are gone are forgotten. */
  const tidyOdd = async (): Promise<void> => {
    for (const [id] of odd) {
      if (!isUuid(id)) await client.delete({ index: names.users, id }, { ignore: [404] });
    }
    const ids = [...odd.keys()].filter(isUuid);
    odd = new Map();
    for (const id of ids) values[auditBucket(id)] = undefined;
    if (ids.length > 0) await walk(client, names, { ids: { values: ids } }, take);
  };

  const compute = async (): Promise<BucketDigests> => {
    const asOf = (await readWatermark(client, names, "user")) ?? null;
    await refresh(client, names);
    const now = await uuidOf(client, names);
    if (now !== index || performance.now() - walkedAt > WALK_ALL_EVERY_MS) {
      buckets = Array.from({ length: BUCKETS }, () => new Map());
      values = [];
      odd = new Map();
      seen = -1;
      index = "";
    }
    // Tombstones too: they take somebody out.
    const news: estypes.QueryDslQueryContainer[] = [{ range: { _seq_no: { gt: seen } } }];
    const notes: estypes.QueryDslQueryContainer = { ids: { values: WATERMARK_IDS } };
    const all = seen < 0;
    await walk(client, names, { bool: { filter: all ? [] : news, must_not: [notes] } }, take);
    if (odd.size > 0) await tidyOdd();
    if (all) {
      index = now;
      walkedAt = performance.now();
    }
    const counts = await countsOf(client, names);
    for (const [i, users] of buckets.entries()) {
      if (users.size === (counts.get(i) ?? 0)) continue;
      users.clear();
      values[i] = undefined;
      await walk(client, names, livingUsers(i), take);
    }
    const oddOf = (bucket: number) => [...odd.values()].filter((hit) => auditBucket(hit._id as string) === bucket);
    return { asOf, buckets: buckets.map((users, i) => (values[i] ??= fold(users, oddOf(i)))) };
  };

  return {
    all() {
      running ??= compute().finally(() => {
        running = undefined;
      });
      return running;
    },
    async bucket(bucket) {
      if (seen < 0) await this.all();
      await refresh(client, names);
      const users = new Map<string, AuditedUser>();
      const add = (hit: Hit) => users.set(hit._id as string, { id: hit._id as string, ...heldAs(hit) });
      await walk(client, names, livingUsers(bucket), add);
      const ids = [...odd.keys()].filter((id) => auditBucket(id) === bucket);
      if (ids.length > 0) {
        await walk(client, names, { ids: { values: ids } }, (hit) => hit._source?.deleted !== true && add(hit));
      }
      return [...users.values()].filter(({ id }) => isUuid(id));
    },
  };
}

const isUuid = (id: string) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id);

interface Held {
  digest: string;
  version: number;
}

const heldAs = (hit: Hit): Held => ({ digest: digestOf(hit), version: hit._version ?? 0 });

function fold(users: Map<string, Held>, odd: Hit[]): { count: number; digest: string } {
  const sum = new BucketDigest();
  for (const [id, { digest, version }] of users) sum.add(id, digest, version);
  for (const hit of odd) sum.add(hit._id as string, digestOf(hit), hit._version ?? 0);
  return sum.value();
}

/** By what the document says: one that is stored under a wrong id is a difference. */
function digestOf(hit: Hit): string {
  const { id = "", handle = "", displayName = "", bio = "" } = hit._source ?? {};
  const { country = null, tags = [], revision = 0 } = hit._source ?? {};
  return profileDigest({ id, handle, displayName, bio, country, tags, revision });
}

async function uuidOf(client: Client, names: IndexNames): Promise<string> {
  const settings = await client.indices.getSettings({ index: names.users, name: "index.uuid", flat_settings: true });
  return JSON.stringify(settings);
}

async function countsOf(client: Client, names: IndexNames): Promise<Map<number, number>> {
  const answer = await client.search<unknown, { bucket: { buckets: { key: number; doc_count: number }[] } }>({
    index: names.users,
    allow_partial_search_results: false,
    query: livingUsers(),
    size: 0,
    aggs: { bucket: { terms: { field: "bucket", size: BUCKETS } } },
  });
  return new Map(whole(answer).aggregations?.bucket.buckets.map((b) => [b.key, b.doc_count]));
}

/** Every document that a query finds, read from one snapshot, so that writers do not disturb it. */
async function walk(
  client: Client,
  names: IndexNames,
  query: estypes.QueryDslQueryContainer,
  each: (hit: Hit) => void,
): Promise<void> {
  const { id } = await client.openPointInTime({ index: names.users, keep_alive: KEEP_ALIVE });
  try {
    for (let after: estypes.SortResults | undefined; ; ) {
      const answer: estypes.SearchResponse<UserDocument> = await client.search<UserDocument>({
        pit: { id, keep_alive: KEEP_ALIVE },
        allow_partial_search_results: false,
        size: PAGE,
        query,
        sort: [{ _shard_doc: "asc" }],
        version: true,
        seq_no_primary_term: true,
        track_total_hits: false,
        ...(after ? { search_after: after } : {}),
      });
      const { hits } = whole(answer).hits;
      for (const hit of hits) each(hit);
      if (hits.length < PAGE) return;
      after = hits.at(-1)?.sort;
    }
  } finally {
    await client.closePointInTime({ id }).catch(() => {});
  }
}
