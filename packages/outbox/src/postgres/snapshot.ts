/** Half of the transaction numbers that the WAL can tell apart: it names them by their lower 32 bits. */
const HALF = 2n ** 31n;
const ALL = 2n ** 32n;

/** A `pg_snapshot`: which transactions had ended, and could be seen, at one moment. */
export class Snapshot {
  /** As PostgreSQL writes it: `xmin:xmax:running,...`. */
  readonly text: string;
  /** Every older transaction had ended. */
  readonly xmin: string;
  readonly #xmin: bigint;
  readonly #xmax: bigint;
  readonly #running: Set<bigint>;

  constructor(text: string) {
    const [xmin = "", xmax = "", running = ""] = text.split(":");
    this.text = text;
    this.xmin = xmin;
    this.#xmin = BigInt(xmin);
    this.#xmax = BigInt(xmax);
    this.#running = new Set(running === "" ? [] : running.split(",").map(BigInt));
  }

  /** Whether it sees a transaction of which it is known that it committed, by the lower 32 bits of its number. */
  sees(xid: number): boolean {
    // No two numbers that are in use at one time are further apart than half of them.
    let full = (this.#xmax & ~(ALL - 1n)) | BigInt(xid);
    if (full > this.#xmax + HALF) full -= ALL;
    else if (full < this.#xmax - HALF) full += ALL;
    if (full < this.#xmin) return true;
    return full < this.#xmax && !this.#running.has(full);
  }
}
