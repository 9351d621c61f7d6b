/**
 * Turns a position in the log into time: remembers where the log ended when, and says how long ago it ended where the relay is now.
 * Resolution is the interval between observations.
 */
export class LagClock {
  #samples: { at: number; end: bigint }[] = [];
  #known = false;

  observe(end: bigint, done: bigint): void {
    this.#known = true;
    this.#drop(done);
    if (end > done) this.#samples.push({ at: performance.now(), end });
    // A long outage needs no finer answer than a long time.
    if (this.#samples.length > 600) this.#samples = this.#samples.filter((_, i) => i % 2 === 0);
  }

  forget(): void {
    this.#known = false;
  }

  /** Null while unknown. */
  seconds(done: bigint | undefined): number | null {
    if (!this.#known || done === undefined) return null;
    this.#drop(done);
    const oldest = this.#samples[0];
    return oldest ? (performance.now() - oldest.at) / 1000 : 0;
  }

  #drop(done: bigint): void {
    const first = this.#samples.findIndex((sample) => sample.end > done);
    if (first !== 0) this.#samples = first === -1 ? [] : this.#samples.slice(first);
  }
}
