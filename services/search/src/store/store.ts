import type { Client } from "@elastic/elasticsearch";
import { remembered } from "@quartet/service";
import { shared } from "../shared.ts";
import { createDigests, type Digests } from "./digests.ts";
import type { IndexNames } from "./indexes.ts";
import { createSnapshots, type Snapshots } from "./pits.ts";
import { readWatermark, refresh } from "./users.ts";

/** Elasticsearch as the HTTP side uses it. */
export interface SearchStore {
  client: Client;
  names: IndexNames;
  snapshots: Snapshots;
  digests: Digests;
  /** As of when the index is true, at most 100 ms old: a slightly older claim is still true. */
  watermark(): Promise<string | undefined>;
  /** Makes what was written before this call visible to search. Callers that come while a refresh runs share the next one. */
  refresh(): Promise<void>;
}

const CACHED_MS = 100;
/** A refresh makes a segment: readers who wait must not make one each. */
const REFRESH_SPACING_MS = 40;

/** `slow` is for what takes longer than a request has. */
export function createStore(client: Client, slow: Client, names: IndexNames): SearchStore {
  const watermark = remembered(CACHED_MS, () => readWatermark(client, names, "user"));

  return {
    client,
    names,
    snapshots: createSnapshots(client, names, watermark),
    digests: createDigests(slow, names),
    watermark,
    refresh: shared(() => refresh(client, names), REFRESH_SPACING_MS),
  };
}
