import { tooManyRequests } from "@quartet/service";

export interface TriesOptions {
  /** Failures of one key in a window; then 429. Default 10. */
  limit?: number;
  /** Begins with a key's first failure. Default 60,000 ms. */
  windowMs?: number;
  /** Keys that are remembered; of more the oldest are forgotten. Default 10,000. */
  keys?: number;
}

/** Counts failures by key, in the memory of one process. A try counts as failed until it has succeeded, so that many at once get no more than one after another. */
export class Tries {
  readonly #limit: number;
  readonly #windowMs: number;
  readonly #keys: number;
  /** In the order in which their windows began. */
  readonly #counts = new Map<string, { failed: number; ends: number }>();

  constructor({ limit = 10, windowMs = 60_000, keys = 10_000 }: TriesOptions = {}) {
    this.#limit = limit;
    this.#windowMs = windowMs;
    this.#keys = keys;
  }

  /** Whether `check` says yes. Throws 429 with the rest of the window if too many have failed; an error of `check` is no failure. */
  async try(key: string, check: () => Promise<boolean>): Promise<boolean> {
    const now = performance.now();
    for (const [old, { ends }] of this.#counts) {
      if (ends > now && this.#counts.size < this.#keys) break;
      this.#counts.delete(old);
    }
    const count = this.#counts.get(key) ?? { failed: 0, ends: now + this.#windowMs };
    this.#counts.set(key, count);
    if (count.failed >= this.#limit) throw tooManyRequests((count.ends - now) / 1000);
    count.failed++;
    let failed = false;
    try {
      failed = !(await check());
      return !failed;
    } finally {
      if (!failed) count.failed--;
    }
  }
}
