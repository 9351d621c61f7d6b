import type { Client, estypes } from "@elastic/elasticsearch";
import { auditBucket, BucketDigest, profileDigest, type Source, type UserEvent } from "@quartet/contracts";
import { isIndexMissing } from "./client.ts";
import { fold } from "./fold.ts";
import type { IndexNames } from "./indexes.ts";

/** A user as it is indexed; of a tombstone only `id`, `deleted` and `bucket`. */
export interface UserDocument {
  id: string;
  deleted: boolean;
  bucket: number;
  handle?: string;
  handleText?: string;
  name?: string;
  bioText?: string;
  tagText?: string;
  displayName?: string;
  bio?: string;
  country?: string | null;
  tags?: string[];
  revision?: number;
  createdAt?: string;
  updatedAt?: string;
}

export type Written = "applied" | "stale" | "retry" | { poison: string };

/** Thrown when Elasticsearch did not take a batch, or has no index to take it. */
export class StoreAway extends Error {
  override name = "StoreAway";
  readonly retryable = true;
  readonly indexMissing: boolean;
  constructor(message: string, options: { cause?: unknown; indexMissing?: boolean } = {}) {
    super(message, { cause: options.cause });
    this.indexMissing = options.indexMissing ?? false;
  }
}

const BULK_BYTES = 4 * 1024 * 1024;

export function toDocument(event: UserEvent): UserDocument {
  const id = event.data.id;
  const bucket = auditBucket(id);
  if (event.type === "quartet.user.tombstone.v1") return { id, deleted: true, bucket };
  const { handle, displayName, bio, country, tags, revision, createdAt, updatedAt } = event.data;
  return {
    id,
    deleted: false,
    bucket,
    handle,
    handleText: handle,
    name: fold(displayName),
    bioText: fold(bio),
    tagText: tags.join(" "),
    displayName,
    bio,
    country,
    tags,
    revision,
    createdAt,
    updatedAt,
  };
}

/** Writes states and tombstones, each with its version: Elasticsearch itself refuses an older one. One verdict an event. Throws StoreAway. */
export async function writeUsers(client: Client, names: IndexNames, events: UserEvent[]): Promise<Written[]> {
  const verdicts: Written[] = [];
  let operations: string[] = [];
  let bytes = 0;
  const send = async (): Promise<void> => {
    if (operations.length === 0) return;
    const body = operations;
    operations = [];
    bytes = 0;
    let response: estypes.BulkResponse;
    try {
      response = await client.bulk({ index: names.users, require_alias: true, operations: body });
    } catch (cause) {
      throw new StoreAway("the bulk request was not answered", { cause, indexMissing: isIndexMissing(cause) });
    }
    for (const item of response.items) verdicts.push(verdictOf(item));
  };
  for (const event of events) {
    const action = { index: { _id: event.data.id, version: event.version as number, version_type: "external" } };
    const lines = [JSON.stringify(action), JSON.stringify(toDocument(event))];
    const size = lines[0]!.length + lines[1]!.length * 2;
    if (bytes + size > BULK_BYTES) await send();
    operations.push(...lines);
    bytes += size;
  }
  await send();
  return verdicts;
}

function verdictOf(item: Partial<Record<string, estypes.BulkResponseItem>>): Written {
  const { status, error } = Object.values(item)[0] as estypes.BulkResponseItem;
  if (status === 200 || status === 201) return "applied";
  if (status === 409) return "stale";
  if (status === 404) throw new StoreAway("the index is missing", { indexMissing: true });
  if (status === 429 || status >= 500) return "retry";
  return { poison: `${error?.type ?? status}: ${error?.reason ?? "refused"}`.slice(0, 300) };
}

/** Makes everything written so far visible to search. */
export async function refresh(client: Client, names: IndexNames): Promise<void> {
  await client.indices.refresh({ index: names.users });
}

/** The versions that are stored (not necessarily visible yet), by user; of a user who is not there, -1. */
export async function storedVersions(client: Client, names: IndexNames, ids: string[]): Promise<Map<string, number>> {
  const answer = await client.mget({ index: names.users, ids, _source: false });
  return new Map(answer.docs.map((doc) => [doc._id, "_version" in doc ? (doc._version ?? -1) : -1]));
}

/** Those of the ids that are still somebody, as of this moment. */
export async function living(client: Client, names: IndexNames, ids: string[]): Promise<Set<string>> {
  if (ids.length === 0) return new Set();
  const answer = await client.mget<UserDocument>({ index: names.users, ids, _source: ["deleted"] });
  return new Set(answer.docs.filter((doc) => "_source" in doc && doc._source?.deleted === false).map((doc) => doc._id));
}

/** How an erasure stands: the tombstone is there at least at this version, and search shows nobody. */
export async function isErased(client: Client, names: IndexNames, id: string, version: number): Promise<boolean> {
  const [stored] = (await client.mget<UserDocument>({ index: names.users, ids: [id], _source: ["deleted"] })).docs;
  if (!stored || !("_source" in stored) || stored._source?.deleted !== true || (stored._version ?? -1) < version)
    return false;
  await refresh(client, names);
  const seen = await client.count({
    index: names.users,
    query: { bool: { filter: [{ term: { id } }, { term: { deleted: false } }] } },
  });
  return seen.count === 0;
}

export async function countLiving(client: Client, names: IndexNames): Promise<number> {
  return (await client.count({ index: names.users, query: { term: { deleted: false } } })).count;
}

/** Says that everything `source` committed before `at` can be found. Never goes back. */
export async function writeWatermark(client: Client, names: IndexNames, source: Source, at: Date): Promise<void> {
  try {
    await client.index({
      index: names.watermarks,
      id: source,
      version: at.getTime(),
      version_type: "external",
      document: { at: at.toISOString() },
    });
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode !== 409) throw error;
  }
}

export async function readWatermark(client: Client, names: IndexNames, source: Source): Promise<string | undefined> {
  const answer = await client.get<{ at: string }>({ index: names.watermarks, id: source }, { ignore: [404] });
  return answer._source?.at;
}

const DIGEST_PAGE = 2000;
const DIGESTED = ["id", "handle", "displayName", "bio", "country", "tags", "revision"];

/** Calls `each` for every live user of one bucket, or of all. Walks a snapshot, so writers do not disturb it. */
async function walk(
  client: Client,
  names: IndexNames,
  bucket: number | undefined,
  each: (user: { id: string; digest: string; version: number }) => void,
): Promise<void> {
  const filter: estypes.QueryDslQueryContainer[] = [{ term: { deleted: false } }];
  if (bucket !== undefined) filter.push({ term: { bucket } });
  let { id: pit } = await client.openPointInTime({ index: names.users, keep_alive: "1m" });
  try {
    for (let after: estypes.SortResults | undefined; ; ) {
      const page: estypes.SearchResponse<UserDocument> = await client.search<UserDocument>({
        pit: { id: pit, keep_alive: "1m" },
        size: DIGEST_PAGE,
        query: { bool: { filter } },
        sort: [{ id: "asc" }],
        version: true,
        track_total_hits: false,
        _source: DIGESTED,
        ...(after ? { search_after: after } : {}),
      });
      pit = page.pit_id ?? pit;
      for (const hit of page.hits.hits) {
        const { handle = "", displayName = "", bio = "", country = null, tags = [], revision = 0 } = hit._source ?? {};
        const id = hit._id as string;
        each({
          id,
          version: hit._version ?? 0,
          digest: profileDigest({ id, handle, displayName, bio, country, tags, revision }),
        });
      }
      if (page.hits.hits.length < DIGEST_PAGE) return;
      after = page.hits.hits.at(-1)?.sort;
    }
  } finally {
    await client.closePointInTime({ id: pit }).catch(() => {});
  }
}

/** The digest of every audit bucket, computed from the documents as they are. */
export async function digests(client: Client, names: IndexNames): Promise<{ count: number; digest: string }[]> {
  const sums = Array.from({ length: 256 }, () => new BucketDigest());
  await walk(client, names, undefined, ({ id, digest }) => sums[auditBucket(id)]!.add(id, digest));
  return sums.map((sum) => sum.value());
}

export async function bucketUsers(client: Client, names: IndexNames, bucket: number) {
  const users: { id: string; digest: string; version: number }[] = [];
  await walk(client, names, bucket, (user) => users.push(user));
  return users;
}
