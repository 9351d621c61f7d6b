import { HttpProblem } from "@quartet/service";

export interface Gate {
  /** Runs `work` as soon as there is room. 503 with `Retry-After` if the line is full or moves too slowly. */
  run<T>(work: () => Promise<T>): Promise<T>;
  readonly running: number;
  readonly waiting: number;
}

/** Lets `width` calls run at a time and at most `queue` others wait, none longer than `waitMs`. */
export function createGate(options: { width: number; queue: number; waitMs: number }): Gate {
  let running = 0;
  const line: (() => void)[] = [];
  const busy = () =>
    new HttpProblem(503, { slug: "busy", detail: "too many queries at the moment", headers: { "Retry-After": "1" } });

  const enter = (): Promise<void> => {
    if (running < options.width) {
      running++;
      return Promise.resolve();
    }
    if (line.length >= options.queue) return Promise.reject(busy());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        line.splice(line.indexOf(go), 1);
        reject(busy());
      }, options.waitMs);
      const go = () => {
        clearTimeout(timer);
        resolve();
      };
      line.push(go);
    });
  };
  const leave = (): void => {
    const next = line.shift();
    if (next) next();
    else running--;
  };

  return {
    get running() {
      return running;
    },
    get waiting() {
      return line.length;
    },
    async run(work) {
      await enter();
      try {
        return await work();
      } finally {
        leave();
      }
    },
  };
}
