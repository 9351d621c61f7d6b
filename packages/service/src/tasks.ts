import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "./logger.ts";
import { metrics } from "./metrics.ts";

/** A task that fails for so long is worth a line in the log, and an alert. */
const PATIENCE_MS = 60_000;

/** What a background task says of itself. */
export interface TaskWatch {
  /** It did what it is there for. */
  ok(): void;
  /** It did not. It may say so as often as it likes. */
  failed(error: unknown): void;
}

export interface WatchOptions {
  logger: Logger;
  /** How long it may fail before it is told. Default one minute. */
  patienceMs?: number;
}

/**
 * Watches a task that is tried again and again. A store that is away for a moment is nobody's business; a task that has failed for more than a minute
 * is told at warning level, once, with the reason, and shows in `quartet_background_task_failing` until it succeeds.
 */
export function watchTask(task: string, { logger, patienceMs = PATIENCE_MS }: WatchOptions): TaskWatch {
  const failing = metrics.gauge("quartet_background_task_failing");
  failing.set({ task }, 0);
  let since: number | undefined;
  let told = false;
  let reason = "";
  let timer: NodeJS.Timeout | undefined;
  return {
    ok() {
      if (since === undefined) return;
      clearTimeout(timer);
      if (told) logger.info({ task, seconds: secondsSince(since) }, "background task works again");
      since = undefined;
      told = false;
      failing.set({ task }, 0);
    },
    failed(error) {
      reason = reasonOf(error);
      logger.debug({ task, err: error }, "background task has to wait");
      if (since !== undefined) return;
      const began = performance.now();
      since = began;
      timer = setTimeout(() => {
        told = true;
        failing.set({ task }, 1);
        logger.warn({ task, reason, seconds: secondsSince(began) }, "background task fails and goes on trying");
      }, patienceMs);
      timer.unref();
    },
  };
}

const secondsSince = (since: number) => Math.round((performance.now() - since) / 1000);

/**
 * A loop for `superviseWorker`: does `work`, pauses for `ms`, for ever. What fails is tried again after the same pause, and watched.
 * @param when the work is left out while this is false
 * @param isMistake errors that no waiting mends end the loop, so that the supervisor tells them
 */
export function every(
  task: string,
  ms: number,
  work: () => Promise<unknown>,
  options: WatchOptions & { when?: () => boolean; isMistake?: (error: unknown) => boolean },
): (signal: AbortSignal) => Promise<void> {
  const watch = watchTask(task, options);
  return async (signal) => {
    while (!signal.aborted) {
      try {
        if (options.when?.() ?? true) {
          await work();
          watch.ok();
        }
      } catch (error) {
        watch.failed(error);
        if (options.isMistake?.(error)) throw error;
      }
      await sleep(ms, undefined, { signal }).catch(() => {});
    }
  };
}

/** One line that says what went wrong. */
export function reasonOf(error: unknown): string {
  if (error === undefined) return "returned";
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return text.slice(0, 500);
}
