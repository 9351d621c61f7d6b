import { setTimeout as sleep } from "node:timers/promises";

/**
 * For the start of an `apply`: returns at once if the last turn is at least `ms` ago, else as soon as it is. An event that comes alone is applied at once; under a
 * steady trickle the buffer fills meanwhile, and the store gets a few larger batches instead of many of one event, each with its own fsync.
 */
export function pacer(ms: number): () => Promise<void> {
  let last = Number.NEGATIVE_INFINITY;
  return async () => {
    const wait = last + ms - performance.now();
    if (wait > 0) await sleep(wait);
    last = performance.now();
  };
}
