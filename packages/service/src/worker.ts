import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "./logger.ts";
import { metrics } from "./metrics.ts";

export interface Worker {
  readonly name: string;
  /** False while it waits to be started again. */
  readonly running: boolean;
  /** Aborts the loop and waits until it has ended. */
  stop(): Promise<void>;
}

export interface WorkerOptions {
  logger: Logger;
  /** Waits `initialMs` after the first crash, twice as long after each further one, at most `maxMs`; a run of `maxMs` or more starts over. */
  backoff?: { initialMs?: number; maxMs?: number };
}

/**
 * Keeps a loop (relay, projector, sweeper) running until it is stopped: a crash is one log line, a metric, and a restart with back-off, for ever.
 * `fn` gets a signal that aborts at `stop()` and should return then; returning earlier starts it again after the same back-off.
 */
export function superviseWorker(
  name: string,
  fn: (signal: AbortSignal) => Promise<void>,
  options: WorkerOptions,
): Worker {
  const { initialMs = 200, maxMs = 5000 } = options.backoff ?? {};
  const up = metrics.gauge("quartet_worker_up");
  const crashes = metrics.counter("quartet_worker_crashes_total");
  crashes.inc({ worker: name }, 0);
  const stopping = new AbortController();
  let running = false;
  up.set({ worker: name }, 0);

  const loop = async (): Promise<void> => {
    let delay = initialMs;
    while (!stopping.signal.aborted) {
      const start = performance.now();
      let error: unknown;
      running = true;
      up.set({ worker: name }, 1);
      try {
        await fn(stopping.signal);
      } catch (thrown) {
        error = thrown;
      }
      running = false;
      up.set({ worker: name }, 0);
      if (stopping.signal.aborted) return;
      if (performance.now() - start >= maxMs) delay = initialMs;
      crashes.inc({ worker: name });
      options.logger.warn(
        { worker: name, retryInMs: delay, reason: reasonOf(error) },
        "worker ended, starting it again",
      );
      options.logger.debug({ worker: name, err: error }, "worker ended");
      await sleep(delay * (0.8 + Math.random() * 0.4), undefined, { signal: stopping.signal }).catch(() => {});
      delay = Math.min(delay * 2, maxMs);
    }
  };
  const ended = loop();
  return {
    name,
    get running() {
      return running;
    },
    async stop() {
      stopping.abort();
      await ended;
    },
  };
}

function reasonOf(error: unknown): string {
  return error === undefined
    ? "returned"
    : error instanceof Error
      ? `${error.name}: ${error.message}`.slice(0, 500)
      : String(error);
}
