import type { Client, estypes } from "@elastic/elasticsearch";
import { auditBucket, BucketDigest, profileDigest } from "@quartet/contracts";
import { whole } from "./client.ts";
import type { IndexNames } from "./indexes.ts";
import { livingUsers } from "./query.ts";
import { auditSlice, BUCKETS, isUuid, PARTS } from "./slices.ts";
import { readWatermark, refresh, type UserDocument, WATERMARK_IDS } from "./users.ts";

const PAGE = 1000;
const SLICES = BUCKETS * PARTS;
/** As many slices are read at once; the engine takes 65,536 terms at most. */
const SLICES_AT_ONCE = 512;
const SUM_BYTES = 16;
const WALK_ALL_EVERY_MS = 10 * 60_000;
const KEEP_ALIVE = "1m";
/** Of documents that cannot have come from any event so many are told at a time; the audit has them gone, and then come the next. */
const MOST_ODD = 1000;

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
 * Digests of what the index holds, computed from the documents themselves. Kept are sums alone: of 16,384 slices of the ids, however many people there are. A
 * slice is read anew when one of its documents has a new sequence number, which every change of a document gets, one made by hand too. A document that
 * vanished has none: the count of its bucket tells, and all slices of that bucket are read again. Every ten minutes, and for another index, all of them are.
 * What has been read stays read when a call is given up: the next one goes on from there.
 */
export interface Digests {
  /** One at a time: the caller sees to it. Ends with an error when `signal` aborts. */
  all(signal: AbortSignal): Promise<BucketDigests>;
  /** The users of one bucket, as they are now. */
  bucket(bucket: number, signal: AbortSignal): Promise<AuditedUser[]>;
}

export function createDigests(client: Client, names: IndexNames): Digests {
  const sums = Buffer.alloc(SLICES * SUM_BYTES);
  const counts = new Uint32Array(SLICES);
  const unread = new Set<number>();
  /** Somebody has written these by hand: without a slice or with another one. Nobody finds them by it. */
  let odd = new Map<string, Hit>();
  /** All changes up to this sequence number are in what has been read, or in what is to be. */
  let seen = -1;
  let index = "";
  let begunAt = Number.NEGATIVE_INFINITY;

  const noteOdd = (hit: Hit): void => {
    if (odd.size < MOST_ODD) odd.set(hit._id as string, hit);
  };

  const readSlices = async (slices: number[], look: Look): Promise<void> => {
    const found = new Map(slices.map((slice) => [slice, new BucketDigest()]));
    const query: estypes.QueryDslQueryContainer = {
      bool: { filter: [livingUsers(), { terms: { slice: slices } }] },
    };
    await walk(look, query, (hit) => {
      if (isOdd(hit)) noteOdd(hit);
      else found.get(auditSlice(hit._id as string))?.add(hit._id as string, digestOf(hit), hit._version ?? 0);
    });
    for (const [slice, sum] of found) {
      const { count, digest } = sum.value();
      counts[slice] = count;
      sums.write(digest, slice * SUM_BYTES, "hex");
      unread.delete(slice);
    }
  };

  const readUnread = async (look: Look): Promise<void> => {
    const all = [...unread];
    for (let i = 0; i < all.length; i += SLICES_AT_ONCE) await readSlices(all.slice(i, i + SLICES_AT_ONCE), look);
  };

  /** What cannot have come from any event goes at once; of the others those that are gone are forgotten. */
  const tidyOdd = async (look: Look): Promise<void> => {
    for (const id of odd.keys()) {
      if (!isUuid(id)) await client.delete({ index: names.users, id }, { ignore: [404], signal: look.signal });
    }
    const ids = [...odd.keys()].filter(isUuid);
    odd = new Map();
    if (ids.length > 0) await walk(look, { ids: { values: ids } }, (hit) => isOdd(hit) && noteOdd(hit));
    await walk(look, SHAPELESS, (hit) => noteOdd(hit), MOST_ODD);
  };

  const noteChanges = async (look: Look): Promise<void> => {
    const now = await uuidOf(client, names);
    if (now !== index || performance.now() - begunAt > WALK_ALL_EVERY_MS) {
      for (let slice = 0; slice < SLICES; slice++) unread.add(slice);
      seen = await newestChange(look);
      index = now;
      begunAt = performance.now();
      return;
    }
    let newest = seen;
    // Tombstones too: they take somebody out.
    const query: estypes.QueryDslQueryContainer = {
      bool: { filter: [{ range: { _seq_no: { gt: seen } } }], must_not: [NOTES] },
    };
    await walk(look, query, (hit) => {
      newest = Math.max(newest, hit._seq_no ?? -1);
      if (isOdd(hit)) noteOdd(hit);
      const slice = auditSlice(hit._id as string);
      if (slice >= 0) unread.add(slice);
    });
    seen = newest;
  };

  const bucketOf = (bucket: number): { count: number; digest: string } => {
    const digest = Buffer.alloc(SUM_BYTES);
    let count = 0;
    const add = (sum: Buffer): void => {
      for (let i = 0; i < SUM_BYTES; i++) digest[i]! ^= sum[i]!;
    };
    for (let slice = bucket * PARTS; slice < (bucket + 1) * PARTS; slice++) {
      count += counts[slice]!;
      add(sums.subarray(slice * SUM_BYTES, (slice + 1) * SUM_BYTES));
    }
    const strange = new BucketDigest();
    for (const hit of odd.values()) {
      if (auditBucket(hit._id as string) === bucket) strange.add(hit._id as string, digestOf(hit), hit._version ?? 0);
    }
    add(Buffer.from(strange.value().digest, "hex"));
    return { count: count + strange.count, digest: digest.toString("hex") };
  };

  return {
    async all(signal) {
      const asOf = (await readWatermark(client, names, "user")) ?? null;
      await refresh(client, names);
      await withView(client, names, signal, async (look) => {
        await noteChanges(look);
        await readUnread(look);
        const living = await countsOf(look);
        for (let bucket = 0; bucket < BUCKETS; bucket++) {
          const slices = Array.from({ length: PARTS }, (_, part) => bucket * PARTS + part);
          if (slices.reduce((sum, slice) => sum + counts[slice]!, 0) === (living.get(bucket) ?? 0)) continue;
          for (const slice of slices) unread.add(slice);
        }
        await readUnread(look);
        await tidyOdd(look);
      });
      return { asOf, buckets: Array.from({ length: BUCKETS }, (_, bucket) => bucketOf(bucket)) };
    },
    async bucket(bucket, signal) {
      await refresh(client, names);
      const users = new Map<string, AuditedUser>();
      const add = (hit: Hit) =>
        users.set(hit._id as string, { id: hit._id as string, digest: digestOf(hit), version: hit._version ?? 0 });
      await withView(client, names, signal, async (look) => {
        await walk(look, livingUsers(bucket), add);
        const ids = [...odd.keys()].filter((id) => auditBucket(id) === bucket);
        if (ids.length > 0)
          await walk(look, { ids: { values: ids } }, (hit) => hit._source?.deleted !== true && add(hit));
      });
      return [...users.values()].filter(({ id }) => isUuid(id));
    },
  };
}

/** Whether a living document is where nobody would look for it. */
function isOdd(hit: Hit): boolean {
  const id = hit._id as string;
  const { deleted, bucket, slice }: Partial<UserDocument> = hit._source ?? {};
  if (deleted === true) return false;
  return deleted !== false || !isUuid(id) || bucket !== auditBucket(id) || slice !== auditSlice(id);
}

const NOTES: estypes.QueryDslQueryContainer = { ids: { values: WATERMARK_IDS } };
/** Documents that are in no bucket or slice, or that do not say whether they live. */
const SHAPELESS: estypes.QueryDslQueryContainer = {
  bool: {
    must_not: [
      NOTES,
      { term: { deleted: true } },
      {
        bool: {
          filter: [{ exists: { field: "deleted" } }, { exists: { field: "bucket" } }, { exists: { field: "slice" } }],
        },
      },
    ],
  },
};

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

/** One view of the index, so that writers do not disturb a walk through it. */
interface Look {
  client: Client;
  pit: string;
  signal: AbortSignal;
}

async function withView(
  client: Client,
  names: IndexNames,
  signal: AbortSignal,
  work: (look: Look) => Promise<void>,
): Promise<void> {
  const { id } = await client.openPointInTime({ index: names.users, keep_alive: KEEP_ALIVE }, { signal });
  try {
    await work({ client, pit: id, signal });
  } finally {
    await client.closePointInTime({ id }).catch(() => {});
  }
}

async function newestChange({ client, pit, signal }: Look): Promise<number> {
  const answer = await client.search<unknown, { newest: { value: number | null } }>(
    {
      pit: { id: pit, keep_alive: KEEP_ALIVE },
      allow_partial_search_results: false,
      size: 0,
      track_total_hits: false,
      aggs: { newest: { max: { field: "_seq_no" } } },
    },
    { signal },
  );
  return whole(answer).aggregations?.newest.value ?? -1;
}

async function countsOf({ client, pit, signal }: Look): Promise<Map<number, number>> {
  const answer = await client.search<unknown, { bucket: { buckets: { key: number; doc_count: number }[] } }>(
    {
      pit: { id: pit, keep_alive: KEEP_ALIVE },
      allow_partial_search_results: false,
      query: livingUsers(),
      size: 0,
      track_total_hits: false,
      aggs: { bucket: { terms: { field: "bucket", size: BUCKETS } } },
    },
    { signal },
  );
  return new Map(whole(answer).aggregations?.bucket.buckets.map((b) => [b.key, b.doc_count]));
}

/** Every document that a query finds, page by page, or the first `most` of them. */
async function walk(
  { client, pit, signal }: Look,
  query: estypes.QueryDslQueryContainer,
  each: (hit: Hit) => void,
  most = Number.POSITIVE_INFINITY,
): Promise<void> {
  const size = Math.min(PAGE, most);
  let after: estypes.SortResults | undefined;
  for (let read = 0; read < most; ) {
    const answer: estypes.SearchResponse<UserDocument> = await client.search<UserDocument>(
      {
        pit: { id: pit, keep_alive: KEEP_ALIVE },
        allow_partial_search_results: false,
        size,
        query,
        sort: [{ _shard_doc: "asc" }],
        version: true,
        seq_no_primary_term: true,
        track_total_hits: false,
        ...(after ? { search_after: after } : {}),
      },
      { signal },
    );
    const { hits } = whole(answer).hits;
    for (const hit of hits) each(hit);
    read += hits.length;
    if (hits.length < size) return;
    after = hits.at(-1)?.sort;
  }
}
