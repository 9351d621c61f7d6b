import { setTimeout as sleep } from "node:timers/promises";

/**
 * Runs `work` for everybody who asks at about the same time: whoever asks while it runs shares the next run, which begins after they asked, and at least
 * `spacingMs` after this one ended. Never two runs at a time.
 */
export function shared<T>(work: () => Promise<T>, spacingMs: number): () => Promise<T> {
  let running: Promise<T> | undefined;
  let next: Promise<T> | undefined;
  let ended = Number.NEGATIVE_INFINITY;
  const start = async (): Promise<T> => {
    const pause = ended + spacingMs - performance.now();
    if (pause > 0) await sleep(pause);
    try {
      return await work();
    } finally {
      ended = performance.now();
    }
  };
  const run = (): Promise<T> => {
    if (!running) {
      running = start().finally(() => {
        running = undefined;
      });
      return running;
    }
    next ??= running
      .then(
        () => {},
        () => {},
      )
      .then(() => {
        next = undefined;
        return run();
      });
    return next;
  };
  return run;
}
