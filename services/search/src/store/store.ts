import type { Client } from "@elastic/elasticsearch";
import type { IndexNames } from "./indexes.ts";
import { readWatermark, refresh, storedVersions } from "./users.ts";

/** Elasticsearch as the HTTP side uses it. */
export interface SearchStore {
  client: Client;
  names: IndexNames;
  readWatermark(): Promise<string | undefined>;
  storedVersions(ids: string[]): Promise<Map<string, number>>;
  refresh(): Promise<void>;
}

export function createStore(client: Client, names: IndexNames): SearchStore {
  return {
    client,
    names,
    readWatermark: () => readWatermark(client, names, "user"),
    storedVersions: (ids) => storedVersions(client, names, ids),
    refresh: () => refresh(client, names),
  };
}
