import { backoff, pause } from "./backoff.ts";
import { isPoison, isRetryable, reasonOf, Stopped, Unproven } from "./errors.ts";
import type { Item, Logger, Verdict } from "./types.ts";

/** Calls that may fail without one success before the store is put to the test. Level by level that is 32 parts of the batch. */
const CALLS_WITHOUT_SUCCESS = 64;
const CANARIES = 16;
/** Items that may be parked on the word of `probe` alone, before anything real has succeeded. */
const PARKED_ON_PROBE = 3;

export interface Settled<T> {
  item: Item<T>;
  verdict: Verdict;
}

interface Failure<T> {
  item: Item<T>;
  error: unknown;
}

/** `wait` aborts waiting between attempts; `call` also gives up on a call that does not come back. */
export interface Patience {
  wait: AbortSignal;
  call: AbortSignal;
}

interface ApplierOptions<T> {
  apply(batch: Item<T>[]): Promise<Verdict[]>;
  probe?: (() => Promise<void>) | undefined;
  logger: Logger;
  /** How the projector's status learns about it. */
  onTrouble(reason: string | null): void;
}

/**
 * Gets a batch into the store, whatever it takes, and tells poison from a sick store.
 *
 * An item is poison when the caller says so, or when it fails alone, twice, and a *witness* succeeds after each failure: another item of the batch, or the
 * last one that went well before, applied once more (stores are idempotent). Without a witness nothing is parked: a bug or an outage that hits every item
 * holds the stream, it does not empty it onto the dead-letter stream.
 */
export class Applier<T> {
  readonly #options: ApplierOptions<T>;
  #lastGood: Item<T> | undefined;
  #parkedOnProbe = 0;
  #downSince: number | undefined;
  #patience: Patience | undefined;

  constructor(options: ApplierOptions<T>) {
    this.#options = options;
  }

  /**
   * Resolves with a verdict for every item. While the store is down it keeps the batch and tries again, for ever. While it is merely unproven, `more()` may
   * add new items: one of them may be the witness. Throws Stopped when the signal aborts meanwhile.
   */
  async settle(batch: Item<T>[], more: () => Item<T>[], patience: Patience): Promise<Settled<T>[]> {
    let items = batch;
    this.#patience = patience;
    for (let attempt = 0; ; attempt++) {
      try {
        const settled = await this.#attempt(items);
        this.#recovered();
        return settled;
      } catch (error) {
        if (error instanceof Stopped) throw error;
        this.#trouble(error);
        await pause(backoff(attempt), patience.wait);
        if (patience.wait.aborted) throw new Stopped();
        if (error instanceof Unproven) items = [...items, ...more()];
      }
    }
  }

  async #attempt(items: Item<T>[]): Promise<Settled<T>[]> {
    try {
      return await this.#call(items);
    } catch (error) {
      if (isRetryable(error)) throw error;
      return this.#isolate(items, error);
    }
  }

  async #isolate(items: Item<T>[], error: unknown): Promise<Settled<T>[]> {
    const first = await this.#bisect(items);
    if (first.failed.length === 0) return first.settled;
    await this.#vouch(first, error);
    const second = await this.#bisect(first.failed.map((f) => f.item));
    if (second.failed.length > 0) await this.#vouch({ settled: first.settled, failed: second.failed }, error);
    const parked = second.failed.map(({ item, error }): Settled<T> => ({ item, verdict: { poison: reasonOf(error) } }));
    return [...first.settled, ...second.settled, ...parked];
  }

  /** Halves what fails until single items are left. Level by level, so that a success anywhere is found early. */
  async #bisect(items: Item<T>[]): Promise<{ settled: Settled<T>[]; failed: Failure<T>[] }> {
    const settled: Settled<T>[] = [];
    const failed: Failure<T>[] = [];
    let level = items.length > 1 ? halves(items) : [items];
    let calls = 0;
    let proven = false;
    while (level.length > 0) {
      const next: Item<T>[][] = [];
      for (const part of level) {
        if (this.#patience?.wait.aborted) throw new Stopped();
        try {
          settled.push(...(await this.#call(part)));
          proven = true;
        } catch (error) {
          if (isRetryable(error)) throw error;
          if (part.length > 1) next.push(...halves(part));
          else if (isPoison(error)) settled.push({ item: part[0]!, verdict: { poison: reasonOf(error) } });
          else failed.push({ item: part[0]!, error });
          if (!proven && ++calls > CALLS_WITHOUT_SUCCESS) {
            if (!(await this.#canary(items))) throw new Unproven("nothing succeeds", { cause: error });
            proven = true;
          }
        }
      }
      level = next;
    }
    return { settled, failed };
  }

  /** Throws unless the store proves itself well now. */
  async #vouch(round: { settled: Settled<T>[]; failed: Failure<T>[] }, error: unknown): Promise<void> {
    const witness = round.settled.find((s) => s.verdict === "applied" || s.verdict === "stale")?.item ?? this.#lastGood;
    if (witness) {
      if (await this.#succeeds(witness)) return;
    } else if (this.#options.probe && this.#parkedOnProbe + round.failed.length <= PARKED_ON_PROBE) {
      await this.#options.probe();
      this.#parkedOnProbe += round.failed.length;
      return;
    }
    throw new Unproven("every item fails, and nothing shows that the store is well", { cause: error });
  }

  async #canary(items: Item<T>[]): Promise<boolean> {
    if (this.#lastGood && (await this.#succeeds(this.#lastGood))) return true;
    for (let i = 0; i < CANARIES; i++) {
      if (await this.#succeeds(items[Math.floor(Math.random() * items.length)]!)) return true;
    }
    return false;
  }

  async #succeeds(item: Item<T>): Promise<boolean> {
    try {
      const verdict = (await this.#call([item]))[0]!.verdict;
      return verdict === "applied" || verdict === "stale";
    } catch (error) {
      if (isRetryable(error)) throw error;
      return false;
    }
  }

  async #call(items: Item<T>[]): Promise<Settled<T>[]> {
    const verdicts = await unlessAborted(this.#options.apply(items), this.#patience!.call);
    if (verdicts.length !== items.length) {
      throw new Error(`apply returned ${verdicts.length} verdicts for ${items.length} items`);
    }
    const settled = items.map((item, i): Settled<T> => ({ item, verdict: verdicts[i]! }));
    for (let i = items.length - 1; i >= 0; i--) {
      if (verdicts[i] !== "applied" && verdicts[i] !== "stale") continue;
      this.#lastGood = items[i];
      this.#parkedOnProbe = 0;
      break;
    }
    return settled;
  }

  #trouble(error: unknown): void {
    this.#options.onTrouble(reasonOf(error));
    if (this.#downSince !== undefined) return;
    this.#downSince = performance.now();
    const held = error instanceof Unproven;
    this.#options.logger.warn(
      { error: reasonOf(error) },
      held
        ? "every item fails: holding the stream, parking nothing"
        : "store unavailable: holding the batch, trying for ever",
    );
  }

  #recovered(): void {
    if (this.#downSince === undefined) return;
    const seconds = Math.round((performance.now() - this.#downSince) / 100) / 10;
    this.#downSince = undefined;
    this.#options.onTrouble(null);
    this.#options.logger.info({ seconds }, "store takes events again");
  }
}

function halves<I>(items: I[]): I[][] {
  const middle = Math.ceil(items.length / 2);
  return [items.slice(0, middle), items.slice(middle)];
}

/** Rejects with Stopped when the signal aborts first; what `promise` does later is nobody's business. */
async function unlessAborted<R>(promise: Promise<R>, signal: AbortSignal): Promise<R> {
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(new Stopped());
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
