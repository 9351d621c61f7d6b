import { setTimeout as sleep } from "node:timers/promises";
import type { RelayState } from "./loop.ts";

/**
 * Runs `onStreamLost` until it resolves, across sessions: what it emits goes through the outbox, so it needs no session of its own. While a
 * stream is owed, no checkpoint of it may be written: a relay that dies here must find the loss again.
 */
export class LossDuty {
  readonly #state: RelayState;
  readonly #signal: AbortSignal;
  readonly #owed = new Map<string, { reason: string; complete: boolean; again: boolean }>();

  constructor(state: RelayState, signal: AbortSignal) {
    this.#state = state;
    this.#signal = signal;
  }

  owes(stream: string): boolean {
    return this.#owed.has(stream);
  }

  /** Starts the hook, or has it run once more if it is running. */
  owe(stream: string, reason: string, complete: boolean): void {
    if (!this.#state.options.onStreamLost) return;
    const running = this.#owed.get(stream);
    if (running) Object.assign(running, { reason, complete, again: true });
    else {
      this.#owed.set(stream, { reason, complete, again: false });
      void this.#work(stream);
    }
  }

  async #work(stream: string): Promise<void> {
    const { logger, options } = this.#state;
    const debt = this.#owed.get(stream)!;
    for (let pause = 500; !this.#signal.aborted; pause = Math.min(pause * 2, 30_000)) {
      debt.again = false;
      try {
        const { reason, complete } = debt;
        await options.onStreamLost!({ stream, reason, complete, signal: this.#signal });
        if (debt.again) continue;
        this.#owed.delete(stream);
        return;
      } catch (error) {
        logger.error({ err: error, stream, retryInMs: pause }, "onStreamLost failed, it is tried again");
      }
      await sleep(pause, undefined, { signal: this.#signal }).catch(() => {});
    }
  }
}
