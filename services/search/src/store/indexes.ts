import type { Client, estypes } from "@elastic/elasticsearch";
import { statusOf } from "./client.ts";

/** Goes up with every change of the mapping that old documents do not satisfy; the new index is then filled beside the old one. */
const VERSION = 1;

export interface IndexNames {
  /** What readers and writers name. */
  users: string;
  watermarks: string;
}

export function indexNames(prefix: string): IndexNames {
  const front = prefix === "" ? "" : `${prefix}-`;
  return { users: `${front}users`, watermarks: `${front}watermarks` };
}

const kept = { type: "keyword", index: false, doc_values: false } as const;
const words = { type: "text", index_prefixes: { min_chars: 1, max_chars: 12 } } as const;

/**
 * Only field types and analysis that every distribution of the engine has. The folded texts are what is searched; the originals are kept to be shown.
 * A tombstone is a document with `deleted: true`, an id and a version, and nothing of the person: the engine itself forgets the version of a
 * deleted document after a minute, and a late event would bring it back.
 */
const properties: Record<string, estypes.MappingProperty> = {
  id: { type: "keyword" },
  deleted: { type: "boolean" },
  bucket: { type: "short" },
  handle: { type: "keyword" },
  handleText: { ...words, norms: false },
  name: words,
  bioText: words,
  tagText: { type: "text", norms: false },
  country: { type: "keyword" },
  tags: { type: "keyword" },
  displayName: kept,
  bio: kept,
  revision: { type: "integer", index: false },
  createdAt: { type: "date", index: false },
  updatedAt: { type: "date", index: false },
};

export interface IndexOptions {
  names: IndexNames;
  replicas: number;
  refreshInterval: string;
}

/** Makes the indexes unless they are there; safe from several replicas at once. */
export async function ensureIndexes(client: Client, { names, replicas, refreshInterval }: IndexOptions): Promise<void> {
  const settings: estypes.IndicesIndexSettings = { number_of_shards: 1, number_of_replicas: replicas };
  await create(client, names.watermarks, {
    settings: { ...settings, refresh_interval: "1s" },
    mappings: { dynamic: false, properties: {} },
  });
  if (await client.indices.existsAlias({ name: names.users })) return;
  const index = `${names.users}-v${VERSION}`;
  await create(client, index, {
    settings: { ...settings, refresh_interval: refreshInterval, translog: { durability: "request" } },
    mappings: { dynamic: "strict", _meta: { replayed: false }, properties },
    aliases: { [names.users]: {} },
  });
}

async function create(client: Client, index: string, body: Omit<estypes.IndicesCreateRequest, "index">): Promise<void> {
  try {
    if (await client.indices.exists({ index })) return;
    await client.indices.create({ index, ...body });
  } catch (error) {
    // Another replica was quicker.
    if (statusOf(error) === 400 && JSON.stringify(error).includes("resource_already_exists")) return;
    throw error;
  }
}

/** The index behind the alias, and whether the stream has been replayed into it from the start. */
export async function replayState(client: Client, names: IndexNames): Promise<{ index: string; replayed: boolean }> {
  const found = Object.entries(await client.indices.getMapping({ index: names.users }))[0];
  if (!found) throw new Error(`no index behind ${names.users}`);
  return { index: found[0], replayed: found[1].mappings._meta?.replayed === true };
}

/** Notes in the index itself that its replay has begun: a wiped index has no such note. */
export async function noteReplay(client: Client, index: string): Promise<void> {
  await client.indices.putMapping({ index, _meta: { replayed: true } });
}
