import { setTimeout as sleep } from "node:timers/promises";

export interface Pace {
  /** Between the starts of two batches while they are small, in ms: a trickle waits for company, because each write has its fsync. */
  trickle: number;
  /** Between the starts of two batches while there is much to do, in ms: shorter, but long enough for the buffer to fill. */
  backlog: number;
  /** A batch of so many events says that there is much to do. */
  large: number;
}

/**
 * For the start of an `apply`, with the number of its events: returns at once if the last turn is long enough ago, else as soon as it is. An event that comes
 * alone is applied at once; under a steady trickle the buffer fills meanwhile, and the store gets a few larger batches instead of many of one event.
 */
export function pacer({ trickle, backlog, large }: Pace): (events: number) => Promise<void> {
  let last = Number.NEGATIVE_INFINITY;
  return async (events) => {
    const wait = last + (events < large ? trickle : backlog) - performance.now();
    if (wait > 0) await sleep(wait);
    last = performance.now();
  };
}
