import { ClientGone, HttpProblem } from "@quartet/service";

/** In whose name a question is asked. */
export interface Asker {
  /** Turns are given out by client; see clientOf. */
  client: string;
  /** Aborts when the caller has gone away. */
  gone?: AbortSignal;
}

export interface Gate {
  /** Runs `work` when it is this client's turn. Rejects with `refusal` if the line is full or moves too slowly, with ClientGone if the caller left it. */
  run<T>(asker: Asker, work: () => Promise<T>): Promise<T>;
  readonly running: number;
  readonly waiting: number;
}

export interface GateOptions {
  /** Calls that run at the same time. */
  width: number;
  /** Calls that wait at the same time: of all clients, and of one. */
  queue: number;
  queuePerClient: number;
  /** The longest that one waits, ms. */
  waitMs: number;
  /** What it is told whose turn does not come. Default: 503 `busy` with `Retry-After`. */
  refusal?: () => HttpProblem;
}

const busy = (): HttpProblem =>
  new HttpProblem(503, { slug: "busy", detail: "too many queries at the moment", headers: { "Retry-After": "1" } });

/** Lets `width` calls run at a time. Whoever waits stands in a line of their client's, and the clients take turns: one who asks much waits for itself. */
export function createGate(options: GateOptions): Gate {
  let running = 0;
  let waiting = 0;
  /** Only clients who wait, in the order of their turns. */
  const lines = new Map<string, (() => void)[]>();
  const refusal = options.refusal ?? busy;

  const enter = ({ client, gone }: Asker): Promise<void> => {
    if (gone?.aborted) return Promise.reject(new ClientGone());
    if (running < options.width) {
      running++;
      return Promise.resolve();
    }
    const line = lines.get(client) ?? [];
    if (waiting >= options.queue || line.length >= options.queuePerClient) return Promise.reject(refusal());
    return new Promise((resolve, reject) => {
      const settle = () => {
        waiting--;
        clearTimeout(timer);
        gone?.removeEventListener("abort", left);
      };
      const leave = (why: Error) => {
        settle();
        line.splice(line.indexOf(go), 1);
        if (line.length === 0) lines.delete(client);
        reject(why);
      };
      const go = () => {
        settle();
        resolve();
      };
      const left = () => leave(new ClientGone());
      const timer = setTimeout(() => leave(refusal()), options.waitMs);
      gone?.addEventListener("abort", left);
      line.push(go);
      lines.set(client, line);
      waiting++;
    });
  };
  const leave = (): void => {
    const [first] = lines;
    if (!first) {
      running--;
      return;
    }
    const [client, line] = first;
    const go = line.shift() as () => void;
    // Behind all others who wait.
    lines.delete(client);
    if (line.length > 0) lines.set(client, line);
    go();
  };

  return {
    get running() {
      return running;
    },
    get waiting() {
      return waiting;
    },
    async run(asker, work) {
      await enter(asker);
      try {
        return await work();
      } finally {
        leave();
      }
    },
  };
}
