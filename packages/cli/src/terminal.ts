import type { EngineName, FetchProgress } from "@quartet/engines";

const MB = 1_000_000;
const PLAIN_EVERY_MS = 5_000;

/** Calm output: whole lines, and while engines are fetched one line that is drawn again (a line every five seconds without a terminal). */
export class Terminal {
  readonly #live = process.stdout.isTTY === true;
  readonly #fetching = new Map<EngineName, FetchProgress>();
  #drawn = false;
  #lastPlain = 0;

  say(line: string): void {
    this.#clear();
    process.stdout.write(`${line}\n`);
    this.#draw();
  }

  error(line: string): void {
    this.#clear();
    process.stderr.write(`${line}\n`);
  }

  /** Shows how far the download of one engine is. */
  fetching(progress: FetchProgress): void {
    if (progress.phase === "cached") return;
    if (progress.phase === "done") {
      this.#fetching.delete(progress.engine);
      this.say(`  fetched ${progress.engine} ${progress.version} (${Math.round(progress.total / MB)} MB)`);
      return;
    }
    this.#fetching.set(progress.engine, progress);
    if (this.#live) {
      this.#clear();
      this.#draw();
    } else if (Date.now() - this.#lastPlain > PLAIN_EVERY_MS) {
      this.#lastPlain = Date.now();
      process.stdout.write(`  ${this.#line()}\n`);
    }
  }

  #line(): string {
    return [...this.#fetching.values()]
      .map(({ engine, phase, bytes, total }) => {
        if (phase !== "downloading") return `${engine} ${phase}`;
        return `${engine} ${Math.round(bytes / MB)}/${Math.round(total / MB)} MB`;
      })
      .join(", ");
  }

  #draw(): void {
    if (!this.#live || this.#fetching.size === 0) return;
    process.stdout.write(`  ${this.#line()}`.slice(0, (process.stdout.columns ?? 80) - 1));
    this.#drawn = true;
  }

  #clear(): void {
    if (this.#drawn) process.stdout.write("\r\u001b[2K");
    this.#drawn = false;
  }
}
