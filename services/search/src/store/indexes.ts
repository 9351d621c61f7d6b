import type { Client, estypes } from "@elastic/elasticsearch";
import { statusOf } from "./client.ts";

/** Goes up with every change of the mapping that old documents do not satisfy. */
const VERSION = 2;

export interface IndexNames {
  /** The alias that readers and writers name. */
  users: string;
}

export function indexNames(prefix: string): IndexNames {
  const front = prefix === "" ? "" : `${prefix}-`;
  return { users: `${front}users` };
}

const kept = { type: "keyword", index: false, doc_values: false } as const;
/** Folded words with spaces between (see fold.ts). */
const words = { type: "text", analyzer: "whitespace", index_prefixes: { min_chars: 1, max_chars: 12 } } as const;
const DERIVED = ["name", "handleText", "bioText", "tagText"] as const;

/**
 * Only field types and analysis that every distribution of the engine has. The folded texts are what is searched; the originals are kept to be shown.
 * A tombstone is a document with `deleted: true`, an id and a version, and nothing of the person: the engine itself forgets the version of a
 * deleted document after a minute, and a late event would bring it back. A document without `deleted` is a note (the watermark): no query sees it.
 */
const properties: Record<string, estypes.MappingProperty> = {
  id: { type: "keyword" },
  deleted: { type: "boolean" },
  bucket: { type: "short" },
  handle: { type: "keyword" },
  ...Object.fromEntries(DERIVED.map((field) => [field, words])),
  country: { type: "keyword" },
  tags: { type: "keyword" },
  displayName: kept,
  bio: kept,
  revision: { type: "long", index: false, doc_values: false },
  note: { type: "object", enabled: false },
};

export interface IndexOptions {
  names: IndexNames;
  replicas: number;
  refreshInterval: string;
  /** How long the engine itself remembers a deletion; for tests. */
  gcDeletes?: string;
}

/**
 * Makes the index and its alias unless they are there, in one step; safe from several replicas at once. An index of another mapping gives its alias to
 * the new one, into which the stream is then replayed. Returns true if this call made it.
 */
export async function ensureIndexes(client: Client, options: IndexOptions): Promise<boolean> {
  const { names, replicas, refreshInterval, gcDeletes } = options;
  const index = `${names.users}-v${VERSION}`;
  if (await client.indices.existsAlias({ name: names.users, index })) return false;
  const old = Object.keys(await client.indices.getAlias({ name: names.users }, { ignore: [404] })).filter((name) =>
    name.startsWith(`${names.users}-v`),
  );
  const made = await create(client, index, {
    settings: {
      number_of_shards: 1,
      number_of_replicas: replicas,
      // Said explicitly, because by default an index that nobody has searched for 30 s is not refreshed.
      refresh_interval: refreshInterval,
      // On disk before it is acknowledged: the projector acknowledges its messages then.
      translog: { durability: "request" },
      ...(gcDeletes ? { gc_deletes: gcDeletes } : {}),
    },
    // What is derived is not kept: it would double the size.
    mappings: {
      dynamic: "strict",
      _source: { excludes: [...DERIVED] },
      _meta: { replayed: false },
      properties,
    },
    ...(old.length > 0 ? {} : { aliases: { [names.users]: {} } }),
  });
  if (old.length > 0) {
    await client.indices.updateAliases({
      actions: [
        { add: { index, alias: names.users } },
        ...old.filter((one) => one !== index).map((one) => ({ remove_index: { index: one } })),
      ],
    });
  }
  return made;
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
  const behind = Object.keys(await client.indices.getAlias({ name: names.users }, { ignore: [404] }));
  const index = behind.filter((name) => name.startsWith(`${names.users}-v`));
  if (index.length > 0) await client.indices.delete({ index });
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
