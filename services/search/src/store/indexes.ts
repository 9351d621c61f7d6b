import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client, estypes } from "@elastic/elasticsearch";
import { statusOf } from "./client.ts";

/** A search that had begun when an index was replaced is over after this, unless it has a snapshot; a snapshot is given up after that. */
const RETIRED_AT_LEAST_MS = 3_000;
const RETIRED_AT_MOST_MS = 30 * 60_000;

/** Goes up with every change of the mapping that old documents do not satisfy. */
const VERSION = 3;

export interface IndexNames {
  /** The alias that readers and writers name. */
  users: string;
  /** The alias of an index that is being filled to take the other one's place; absent most of the time. */
  next: string;
}

export function indexNames(prefix: string): IndexNames {
  const front = prefix === "" ? "" : `${prefix}-`;
  return { users: `${front}users`, next: `${front}users-next` };
}

const kept = { type: "keyword", index: false, doc_values: false } as const;
/** Folded words with spaces between (see fold.ts). */
const words = { type: "text", analyzer: "whitespace", index_prefixes: { min_chars: 1, max_chars: 12 } } as const;
const TEXTS = ["name", "handleText", "bioText", "tagText"] as const;
/** All words of the texts, to find those that are nearly the same as a mistyped one. */
const dictionary = { type: "keyword", doc_values: false, norms: false } as const;
const DERIVED = [...TEXTS, "words"];

/**
 * Only field types and analysis that every distribution of the engine has. The folded texts are what is searched; the originals are kept to be shown.
 * A tombstone is a document with `deleted: true`, an id and a version, and nothing of the person: the engine itself forgets the version of a
 * deleted document after a minute, and a late event would bring it back. A document without `deleted` is a note (the watermark): no query sees it.
 */
const properties: Record<string, estypes.MappingProperty> = {
  id: { type: "keyword" },
  deleted: { type: "boolean" },
  bucket: { type: "short" },
  /** Of the bucket, for the audit (see digests.ts). */
  slice: { type: "short" },
  handle: { type: "keyword" },
  ...Object.fromEntries(TEXTS.map((field) => [field, words])),
  words: dictionary,
  country: { type: "keyword" },
  tags: { type: "keyword" },
  displayName: kept,
  bio: kept,
  revision: { type: "long", index: false, doc_values: false },
  note: { type: "object", enabled: false },
};

/** A watermark that was read just before may be said until then: its request had a second and a half, and it is remembered for a tenth. */
const SETTLE_MS = 2_000;
/** As far as the clocks of a source and of this service may be apart. */
const CLOCKS_DIFFER_MS = 1_000;

export interface IndexOptions {
  names: IndexNames;
  replicas: number;
  refreshInterval: string;
  /** Nobody reads it but who makes it: no old claim can be said of it. */
  unread?: boolean;
  /** How long the engine itself remembers a deletion; for tests. */
  gcDeletes?: string;
}

/**
 * Makes the index and its alias unless they are there, in one step; safe from several replicas at once. An index of another mapping stays in use, whole,
 * while its successor is filled: a rebuild is begun. Returns true if this call made the first index.
 */
export async function ensureIndexes(client: Client, options: IndexOptions): Promise<boolean> {
  const { names } = options;
  const { live, next } = await indexState(client, names);
  if (live.length > 0) {
    if (!live.some(isOurs) && !(next && isOurs(next))) await startRebuild(client, options);
    return false;
  }
  // Readers remember a watermark for a moment: that of a lost index must be forgotten before there is an empty one to say it of.
  if (!options.unread) await sleep(SETTLE_MS);
  const index = `${names.users}-v${VERSION}`;
  const made = await create(client, index, { ...bodyOf(options, {}), aliases: { [names.users]: {} } });
  if (!made) await dropNameless(client, names, index);
  return made;
}

/** An index in the way that has lost its name: it goes, and the next look makes a new one. */
async function dropNameless(client: Client, names: IndexNames, index: string): Promise<void> {
  for (let look = 0; look < 3; look++) {
    const { live, retired } = await indexState(client, names);
    if (live.length > 0 || !retired.includes(index)) return;
    await sleep(500);
  }
  await client.indices.delete({ index }, { ignore: [404] });
}

function bodyOf({ replicas, refreshInterval, gcDeletes }: IndexOptions, meta: object) {
  return {
    settings: {
      number_of_shards: 1,
      number_of_replicas: replicas,
      // Said explicitly, because by default an index that nobody has searched for 30 s is not refreshed.
      refresh_interval: refreshInterval,
      // On disk before it is acknowledged: the projector acknowledges its messages then.
      translog: { durability: "request" as const },
      ...(gcDeletes ? { gc_deletes: gcDeletes } : {}),
    },
    // What is derived is not kept: it would double the size.
    mappings: {
      dynamic: "strict" as const,
      _source: { excludes: [...DERIVED] },
      _meta: { replayed: false, ...meta },
      properties,
    },
  };
}

/** Whether an index has the mapping that this code writes and reads. */
export function isOurs(index: string): boolean {
  return new RegExp(`-v${VERSION}(-[b-d])?$`).test(index);
}

export interface IndexState {
  /** Behind the alias that is read: one. */
  live: string[];
  /** The one that is being filled. */
  next: string | undefined;
  /** Without a name: they were replaced. */
  retired: string[];
}

/** Which index is what, by their aliases. */
export async function indexState(client: Client, names: IndexNames): Promise<IndexState> {
  const all = await client.indices.getAlias({ index: `${names.users}-v*`, allow_no_indices: true }, { ignore: [404] });
  const having = (alias: string) =>
    Object.entries(all).flatMap(([index, { aliases }]) => (aliases && Object.hasOwn(aliases, alias) ? [index] : []));
  const live = having(names.users);
  const next = having(names.next)[0];
  const retired = Object.keys(all).filter((index) => !live.includes(index) && index !== next);
  return { live, next, retired };
}

/** Begins a rebuild: an index to be filled beside the one in use. False if one is under way, or too many old indexes are still being read. */
export async function startRebuild(client: Client, options: IndexOptions): Promise<boolean> {
  const { names } = options;
  const { live, next, retired } = await indexState(client, names);
  if (next) return false;
  // The first name that is free, so that of two who begin at once one fails.
  const free = ["", "-b", "-c", "-d"].map((suffix) => `${names.users}-v${VERSION}${suffix}`);
  const index = free.find((name) => !live.includes(name) && !retired.includes(name));
  if (!index) return false;
  const rebuild = { id: randomUUID(), startedAt: new Date().toISOString() };
  return create(client, index, { ...bodyOf(options, { rebuild }), aliases: { [names.next]: {} } });
}

/** What an index says of itself. */
interface Meta {
  /** Its stream has been begun from the start. */
  replayed?: boolean;
  /** When. */
  replayedAt?: string;
  /** The rebuild that made it. */
  rebuild?: { id: string; startedAt: string; finishedAt?: string };
}

async function metaOf(client: Client, index: string): Promise<Meta> {
  const found = Object.values(await client.indices.getMapping({ index }))[0];
  return (found?.mappings._meta ?? {}) as Meta;
}

async function writeMeta(client: Client, index: string, change: Meta): Promise<void> {
  const meta = await metaOf(client, index);
  await client.indices.putMapping({ index, _meta: { ...meta, ...change } as Record<string, unknown> });
}

export interface RebuildMarks {
  /** The rebuild under way. */
  next?: { index: string; id: string; startedAt: string; begun: boolean };
  /** The last one that came to its end. */
  last?: { startedAt: string; finishedAt: string };
  retired: string[];
}

/** How the rebuild stands, by the indexes themselves. */
export async function rebuildMarks(client: Client, names: IndexNames): Promise<RebuildMarks> {
  const { live, next, retired } = await indexState(client, names);
  const marks: RebuildMarks = { retired };
  if (next) {
    const { rebuild, replayed } = await metaOf(client, next);
    if (rebuild) marks.next = { index: next, id: rebuild.id, startedAt: rebuild.startedAt, begun: replayed === true };
  }
  if (live[0]) {
    const { rebuild } = await metaOf(client, live[0]);
    if (rebuild) marks.last = { startedAt: rebuild.startedAt, finishedAt: rebuild.finishedAt ?? rebuild.startedAt };
  }
  return marks;
}

/** Gives the name to the index that was filled, in one step. An index of another mapping was not written by this code: then the stream is replayed once more. */
export async function swapIndexes(client: Client, names: IndexNames, id: string): Promise<void> {
  const { next } = await rebuildMarks(client, names);
  if (next?.id !== id) return;
  const { live } = await indexState(client, names);
  const rebuild = { id, startedAt: next.startedAt, finishedAt: new Date().toISOString() };
  await writeMeta(client, next.index, { rebuild, replayed: live.every(isOurs) });
  await client.indices.updateAliases({
    actions: [
      { remove: { index: next.index, alias: names.next, must_exist: true } },
      { add: { index: next.index, alias: names.users } },
      ...live.map((index) => ({ remove: { index, alias: names.users, must_exist: true } })),
    ],
  });
}

/** Resolves when nothing is being written to the index in use, and nothing will be. */
export async function blockWrites(client: Client, names: IndexNames): Promise<void> {
  const { live } = await indexState(client, names);
  for (const index of live) await client.indices.addBlock({ index, block: "write" });
}

export async function allowWrites(client: Client, names: IndexNames): Promise<void> {
  const { live } = await indexState(client, names);
  for (const index of live) await client.indices.putSettings({ index, settings: { "index.blocks.write": null } });
}

/** Deletes indexes that were replaced, once nobody turns the pages of a result in them any more. */
export async function dropRetired(client: Client, names: IndexNames): Promise<void> {
  const { live, retired } = await indexState(client, names);
  if (retired.length === 0 || !live[0]) return;
  const since = (await metaOf(client, live[0])).rebuild?.finishedAt;
  const age = since ? Date.now() - Date.parse(since) : Number.POSITIVE_INFINITY;
  if (age < RETIRED_AT_LEAST_MS) return;
  for (const index of retired) {
    const { indices } = await client.indices.stats({ index, metric: "search" });
    const open = indices?.[index]?.total?.search?.open_contexts ?? 0;
    if (open === 0 || age > RETIRED_AT_MOST_MS) await client.indices.delete({ index }, { ignore: [404] });
  }
}

async function create(
  client: Client,
  index: string,
  body: Omit<estypes.IndicesCreateRequest, "index">,
): Promise<boolean> {
  try {
    await client.indices.create({ index, ...body });
    return true;
  } catch (error) {
    // Another replica was quicker.
    if (statusOf(error) === 400 && String(error).includes("resource_already_exists")) return false;
    throw error;
  }
}

/** Removes what is behind the alias, for good. */
export async function removeIndexes(client: Client, names: IndexNames): Promise<void> {
  const { live: index } = await indexState(client, names);
  if (index.length > 0) await client.indices.delete({ index });
}

/**
 * The index behind the alias, whether the stream has been replayed into it from the start, and from when on a watermark speaks of that index (ms since
 * 1970): one of before may have been proved of a predecessor.
 */
export async function replayState(
  client: Client,
  names: IndexNames,
): Promise<{ index: string; replayed: boolean; since: number }> {
  const found = Object.entries(await client.indices.getMapping({ index: names.users }))[0];
  if (!found) throw new Error(`no index behind ${names.users}`);
  const meta = (found[1].mappings._meta ?? {}) as Meta;
  const since = meta.replayedAt ? Date.parse(meta.replayedAt) + CLOCKS_DIFFER_MS : 0;
  return { index: found[0], replayed: meta.replayed === true, since };
}

/** Notes in the index itself that its replay has begun: a wiped index has no such note. */
export async function noteReplay(client: Client, index: string): Promise<void> {
  await writeMeta(client, index, { replayed: true, replayedAt: new Date().toISOString() });
}
