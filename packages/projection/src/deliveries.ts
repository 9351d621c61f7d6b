/**
 * Which deliveries of the consumer this replica got, as runs of consumer sequences. A replica alone gets all of them: one run.
 */
export class DeliveryRuns {
  #runs: { from: number; to: number }[] = [];

  add(consumerSeq: number): void {
    const last = this.#runs.at(-1);
    if (last && consumerSeq === last.to + 1) last.to = consumerSeq;
    else if (!last || consumerSeq > last.to) this.#runs.push({ from: consumerSeq, to: consumerSeq });
    else if (!this.covers(consumerSeq - 1, consumerSeq)) {
      // Out of order: cannot happen on one connection, is only a missed chance if it does.
      this.#runs.push({ from: consumerSeq, to: consumerSeq });
      this.#runs.sort((a, b) => a.from - b.from);
    }
  }

  /** It was given back: somebody else may have it now. */
  remove(consumerSeq: number): void {
    const i = this.#runs.findIndex((run) => run.from <= consumerSeq && consumerSeq <= run.to);
    if (i < 0) return;
    const { from, to } = this.#runs[i]!;
    const parts = [
      { from, to: consumerSeq - 1 },
      { from: consumerSeq + 1, to },
    ];
    this.#runs.splice(i, 1, ...parts.filter((run) => run.from <= run.to));
  }

  clear(): void {
    this.#runs = [];
  }

  /** Everything up to `floor` is acknowledged by somebody: no need to remember it. */
  forget(floor: number): void {
    while (this.#runs.length > 0 && this.#runs[0]!.to <= floor) this.#runs.shift();
  }

  /** Whether this replica got every delivery in (after, upTo]. */
  covers(after: number, upTo: number): boolean {
    let reached = after;
    for (const run of this.#runs) {
      if (reached >= upTo) break;
      if (run.to <= reached) continue;
      if (run.from > reached + 1) return false;
      reached = run.to;
    }
    return reached >= upTo;
  }
}
