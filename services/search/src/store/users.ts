import type { Client, estypes } from "@elastic/elasticsearch";
import { auditBucket, type Source, type UserEvent } from "@quartet/contracts";
import { unsafe } from "@quartet/service";
import { Incomplete, isIndexMissing, statusOf, whole } from "./client.ts";
import { dictionaryOf, indexedText } from "./fold.ts";
import { type IndexNames, indexState } from "./indexes.ts";
import { livingUsers } from "./query.ts";
import { auditSlice } from "./slices.ts";

/** A user as it is indexed; of a tombstone only `id`, `deleted` and `bucket`. The folded texts are not read back. */
export interface UserDocument {
  id: string;
  deleted: boolean;
  bucket: number;
  slice?: number;
  handle?: string;
  handleText?: string;
  name?: string;
  bioText?: string;
  tagText?: string;
  /** Every word of the folded texts (see dictionaryOf). */
  words?: string[];
  displayName?: string;
  bio?: string;
  country?: string | null;
  tags?: string[];
  revision?: number;
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

/** One bulk request is at most this large: Elasticsearch holds all of it in memory. */
const BULK_BYTES = 4 * 1024 * 1024;
const BULK_DOCUMENTS = 1000;

export function toDocument(event: UserEvent): UserDocument {
  const id = event.data.id;
  const bucket = auditBucket(id);
  if (event.type === "quartet.user.tombstone.v1") return { id, deleted: true, bucket };
  const { handle, displayName, bio, country, tags, revision } = event.data;
  const texts = {
    handleText: indexedText(handle),
    name: indexedText(displayName, { isName: true }),
    bioText: indexedText(bio),
    tagText: indexedText(tags.join(" ")),
  };
  return {
    id,
    deleted: false,
    bucket,
    slice: auditSlice(id),
    handle,
    ...texts,
    words: dictionaryOf(...Object.values(texts)),
    displayName,
    bio,
    country,
    tags,
    revision,
  };
}

/**
 * The same into the index that is being filled, if there is one. Comes before the write to the one in use: so whatever can be seen there is here. Throws
 * StoreAway also for single events.
 */
export async function writeUsersToNext(client: Client, names: IndexNames, events: UserEvent[]): Promise<void> {
  if (!(await client.indices.existsAlias({ name: names.next }))) return;
  const verdicts = await writeUsers(client, names, events, { alias: names.next });
  if (verdicts.includes("retry")) throw new StoreAway("the index that is being filled did not take all");
}

/**
 * Writes states and tombstones, each with its version: Elasticsearch itself refuses an older one. One verdict an event. `refresh`: visible to search when
 * this returns. Throws StoreAway.
 */
export async function writeUsers(
  client: Client,
  names: IndexNames,
  events: UserEvent[],
  { alias = names.users, refresh = false } = {},
): Promise<Written[]> {
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
      response = await client.bulk({ index: alias, require_alias: true, refresh, operations: body });
    } catch (cause) {
      throw new StoreAway("the bulk request was not answered", { cause, indexMissing: isIndexMissing(cause) });
    }
    for (const item of response.items) verdicts.push(verdictOf(item));
  };
  for (const event of events) {
    const lines = operationOf(event);
    const size = lines.reduce((sum, line) => sum + Buffer.byteLength(line), 0);
    if (bytes + size > BULK_BYTES || operations.length >= 2 * BULK_DOCUMENTS) await send();
    operations.push(...lines);
    bytes += size;
  }
  await send();
  return verdicts;
}

function operationOf(event: UserEvent): string[] {
  const forgets = unsafe.has("forget-tombstone") && event.type === "quartet.user.tombstone.v1";
  if (forgets) return [JSON.stringify({ delete: { _id: event.data.id } })];
  // Without the check whatever comes last is the newest.
  const version = unsafe.has("skip-version-check") ? Date.now() * 1000 : (event.version as number);
  const action = { index: { _id: event.data.id, version, version_type: "external" } };
  return [JSON.stringify(action), JSON.stringify(toDocument(event))];
}

function verdictOf(item: Partial<Record<string, estypes.BulkResponseItem>>): Written {
  const { status, error } = Object.values(item)[0] as estypes.BulkResponseItem;
  if (status === 200 || status === 201) return "applied";
  if (status === 409) return "stale";
  if (status === 404 && unsafe.has("forget-tombstone")) return "stale";
  if (status === 404) throw new StoreAway("the index is missing", { indexMissing: true });
  if (status === 429 || status >= 500 || error?.type === "cluster_block_exception") return "retry";
  // Not the reason: it quotes the document, and a dead letter outlives an erasure.
  return { poison: `Elasticsearch refuses it: ${error?.type ?? status}` };
}

/** Makes everything written so far visible to search. */
export async function refresh(client: Client, names: IndexNames): Promise<void> {
  const { _shards } = await client.indices.refresh({ index: names.users });
  if (_shards && (_shards.failed > 0 || _shards.successful === 0)) throw new Incomplete("not every shard refreshed");
}

/** What is stored under an id, visible to search or not. */
export interface Stored {
  version: number;
  deleted: boolean;
}

/** What is stored under each of the ids at this moment; absent if nothing. Throws Incomplete while a shard is being recovered. */
export async function stored(
  client: Client,
  names: IndexNames,
  ids: string[],
  signal?: AbortSignal,
): Promise<Map<string, Stored>> {
  const found = new Map<string, Stored>();
  if (ids.length === 0) return found;
  const { docs } = await client.mget<UserDocument>(
    { index: names.users, ids, _source_includes: ["deleted"] },
    { signal },
  );
  for (const doc of docs) {
    if ("error" in doc) throw new Incomplete(`${doc.error.type}`);
    if (doc.found) found.set(doc._id, { version: doc._version ?? -1, deleted: doc._source?.deleted !== false });
  }
  return found;
}

/**
 * Makes sure that an erased user is a tombstone, by writing it if the event has not come yet, and that searches see it. True once the store holds a
 * tombstone of that version or above.
 */
export async function erase(client: Client, names: IndexNames, id: string, version: number): Promise<boolean> {
  const { next, retired } = await indexState(client, names);
  if (next && !(await eraseIn(client, { ...names, users: names.next }, id, version))) return false;
  if (retired.length > 0) {
    // Nothing may be written there since it was replaced; an erasure must. By its id: not every distribution of the engine can delete by query.
    await client.indices.putSettings({ index: retired, settings: { "index.blocks.write": null } }, { ignore: [404] });
    for (const index of retired) await client.delete({ index, id, refresh: true }, { ignore: [404] });
  }
  return eraseIn(client, names, id, version);
}

async function eraseIn(client: Client, names: IndexNames, id: string, version: number): Promise<boolean> {
  const isGone = async () => {
    const held = (await stored(client, names, [id])).get(id);
    return held?.deleted === true && held.version >= version;
  };
  if (!(await isGone())) {
    try {
      const document: UserDocument = { id, deleted: true, bucket: auditBucket(id) };
      const external = { version, version_type: "external", require_alias: true } as const;
      await client.index({ index: names.users, id, ...external, document });
    } catch (error) {
      if (statusOf(error) !== 409) throw error;
      if (!(await isGone())) return false;
    }
  }
  await refresh(client, names);
  return true;
}

/** How many users can be found. */
export async function countLiving(client: Client, names: IndexNames): Promise<number> {
  const answer = await client.search({
    index: names.users,
    allow_partial_search_results: false,
    query: livingUsers(),
    size: 0,
    track_total_hits: true,
  });
  const { total } = whole(answer).hits;
  return typeof total === "number" ? total : (total?.value ?? 0);
}

const watermarkId = (source: Source) => `watermark-${source}`;
/** The notes among the documents. */
export const WATERMARK_IDS = [watermarkId("user"), watermarkId("session")];

/** Says, in the index itself, that everything `source` committed before `at` can be found in it. Never goes back. */
export async function writeWatermark(client: Client, names: IndexNames, source: Source, at: Date): Promise<void> {
  try {
    await client.index({
      index: names.users,
      id: watermarkId(source),
      version: at.getTime(),
      version_type: "external",
      require_alias: true,
      document: { note: { at: at.toISOString() } },
    });
  } catch (error) {
    if (statusOf(error) !== 409) throw error;
  }
}

/** Undefined while unknown: an index that is being filled. */
export async function readWatermark(client: Client, names: IndexNames, source: Source): Promise<string | undefined> {
  const id = watermarkId(source);
  const answer = await client.get<{ note: { at: string } }>({ index: names.users, id }, { ignore: [404] });
  return answer._source?.note.at;
}
