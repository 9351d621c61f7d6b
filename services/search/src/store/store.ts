import { setTimeout as sleep } from "node:timers/promises";
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

/** A refresh makes a segment: readers who wait must not make one each. */
const REFRESH_SPACING_MS = 40;

/** Runs `work` for everybody who asks at about the same time: whoever asks while it runs shares the next run, which begins after they asked. */
function shared(work: () => Promise<void>, spacingMs: number): () => Promise<void> {
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  let ended = Number.NEGATIVE_INFINITY;
  const start = async (): Promise<void> => {
    const pause = ended + spacingMs - performance.now();
    if (pause > 0) await sleep(pause);
    try {
      await work();
    } finally {
      ended = performance.now();
    }
  };
  const run = (): Promise<void> => {
    if (!running) {
      running = start().finally(() => {
        running = undefined;
      });
      return running;
    }
    next ??= running
      .catch(() => {})
      .then(() => {
        next = undefined;
        return run();
      });
    return next;
  };
  return run;
}

export function createStore(client: Client, names: IndexNames): SearchStore {
  return {
    client,
    names,
    readWatermark: () => readWatermark(client, names, "user"),
    storedVersions: (ids) => storedVersions(client, names, ids),
    refresh: shared(() => refresh(client, names), REFRESH_SPACING_MS),
  };
}
