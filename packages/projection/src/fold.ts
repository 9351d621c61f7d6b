import type { Item } from "./types.ts";

/** Result of `latestPerKey`: what to write, and which places of the batch it stands for. */
export interface Folded<T> {
  /** The newest item of every key, in order of arrival. */
  latest: Item<T>[];
  /** `places[i]` are the indexes in the batch that `latest[i]` covers, its own included. */
  places: number[][];
  /** Spreads one verdict per latest item over the whole batch: those folded away share a `retry`, and are `stale` otherwise. */
  spread<V>(verdicts: V[]): (V | "stale")[];
}

/**
 * Folds a batch of states to the newest one per key, so that a store writes each key once. Equal versions are the same state: the later delivery
 * stands for both. If the newest is poison the older ones are only `stale`: they were superseded in truth, whether or not it can be shown.
 */
export function latestPerKey<T>(
  batch: Item<T>[],
  keyOf: (event: T) => string,
  versionOf: (event: T) => number,
): Folded<T> {
  const best = new Map<string, { index: number; version: number; places: number[] }>();
  batch.forEach((item, index) => {
    const key = keyOf(item.event);
    const version = versionOf(item.event);
    const known = best.get(key);
    if (!known) best.set(key, { index, version, places: [index] });
    else {
      known.places.push(index);
      if (version >= known.version) Object.assign(known, { index, version });
    }
  });
  const chosen = [...best.values()].sort((a, b) => a.index - b.index);
  return {
    latest: chosen.map((c) => batch[c.index]!),
    places: chosen.map((c) => c.places),
    spread<V>(verdicts: V[]): (V | "stale")[] {
      const all: (V | "stale")[] = new Array(batch.length).fill("stale");
      chosen.forEach((c, i) => {
        const verdict = verdicts[i]!;
        if (verdict === "retry") for (const place of c.places) all[place] = verdict;
        all[c.index] = verdict;
      });
      return all;
    },
  };
}
