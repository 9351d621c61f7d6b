import type { Client } from "@elastic/elasticsearch";
import { remembered } from "@quartet/service";
import { createDigests, type Digests } from "./digests.ts";
import type { IndexNames } from "./indexes.ts";
import { createSnapshots, type Snapshots } from "./pits.ts";
import { readWatermark } from "./users.ts";

/** Elasticsearch as the HTTP side uses it. */
export interface SearchStore {
  client: Client;
  names: IndexNames;
  snapshots: Snapshots;
  digests: Digests;
  /** As of when the index is true, at most 100 ms old: a slightly older claim is still true. */
  watermark(): Promise<string | undefined>;
}

const CACHED_MS = 100;

/** `slow` is for what takes longer than a request has. */
export function createStore(client: Client, slow: Client, names: IndexNames): SearchStore {
  const watermark = remembered(CACHED_MS, () => readWatermark(client, names, "user"));

  return {
    client,
    names,
    snapshots: createSnapshots(client, names, watermark),
    digests: createDigests(slow, names),
    watermark,
  };
}
