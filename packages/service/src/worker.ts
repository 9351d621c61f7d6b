import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "./logger.ts";
import { metrics } from "./metrics.ts";
import { reasonOf, watchTask } from "./tasks.ts";

/** A loop that has run for so long is well. */
const LASTS_MS = 60_000;

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
  const watch = watchTask(name, options);
  let told = "";
  let running = false;
  up.set({ worker: name }, 0);

  const loop = async (): Promise<void> => {
    let delay = initialMs;
    while (!stopping.signal.aborted) {
      const start = performance.now();
      let error: unknown;
      running = true;
      up.set({ worker: name }, 1);
      const lasts = setTimeout(() => watch.ok(), LASTS_MS).unref();
      try {
        await fn(stopping.signal);
      } catch (thrown) {
        error = thrown;
      }
      running = false;
      clearTimeout(lasts);
      up.set({ worker: name }, 0);
      if (stopping.signal.aborted) return;
      if (performance.now() - start >= maxMs) delay = initialMs;
      crashes.inc({ worker: name });
      watch.failed(error);
      const reason = reasonOf(error);
      // The same reason again, every few seconds, is no news.
      options.logger[reason === told ? "debug" : "warn"](
        { worker: name, retryInMs: delay, reason },
        "worker ended, starting it again",
      );
      told = reason;
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
