import { SingleBar } from "cli-progress";

/** A progress bar with rate and ETA on a terminal; a line every five seconds elsewhere (logs, CI). */
export class Progress {
  readonly #label: string;
  readonly #total: number;
  readonly #started = performance.now();
  readonly #bar: SingleBar | undefined;
  #done = 0;
  #note = "";
  #lastLine = performance.now();

  constructor(label: string, total: number) {
    this.#label = label;
    this.#total = total;
    if (process.stderr.isTTY) {
      this.#bar = new SingleBar({
        format: `${label} {bar} {percentage}% | {value}/{total} | {rate}/s | ETA {left} {note}`,
        stream: process.stderr,
        hideCursor: true,
        barsize: 30,
      });
      this.#bar.start(total, 0, { rate: "-", left: "-", note: "" });
    }
  }

  /** Counts `n` more. */
  add(n: number): void {
    this.#done += n;
    this.#note = "";
    this.#show();
  }

  /** Says why it stands still. */
  waiting(reason: string): void {
    this.#note = `| waiting: ${reason.slice(0, 80)}`;
    this.#show();
  }

  stop(): void {
    this.#bar?.stop();
    if (!this.#bar) this.#line();
  }

  #figures(): { rate: string; left: string; note: string } {
    const seconds = (performance.now() - this.#started) / 1000;
    const rate = this.#done / Math.max(seconds, 0.001);
    const left = rate > 0 ? Math.ceil((this.#total - this.#done) / rate) : Number.NaN;
    return { rate: rate.toFixed(0), left: Number.isFinite(left) ? `${left}s` : "-", note: this.#note };
  }

  #show(): void {
    if (this.#bar) this.#bar.update(this.#done, this.#figures());
    else if (performance.now() - this.#lastLine > 5000) this.#line();
  }

  #line(): void {
    this.#lastLine = performance.now();
    const { rate, left, note } = this.#figures();
    process.stderr.write(`${this.#label}: ${this.#done}/${this.#total}, ${rate}/s, ETA ${left} ${note}\n`);
  }
}
