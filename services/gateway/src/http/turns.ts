import { ClientGone, tooManyRequests } from "@quartet/service";

/** Who has a turn, by client. */
export interface Turns {
  /**
   * Does `work` as soon as fewer than `each` of the client's are under way; those of other clients do not wait for it. 429 if that takes longer than
   * `withinMs`, or if too many of the client's wait already; ClientGone if `signal` aborts first.
   */
  take<T>(client: string, options: { withinMs: number; signal: AbortSignal }, work: () => Promise<T>): Promise<T>;
}

/** As many of one client may wait for their turn; one more is refused. */
const mostInLine = 1000;

/** Lets each client have at most `each` requests under way at the same time: whoever asks for much at once waits for itself. */
export function createTurns(each: number): Turns {
  const clients = new Map<string, { running: number; line: Set<() => void> }>();
  return {
    async take(client, { withinMs, signal }, work) {
      const mine = clients.get(client) ?? { running: 0, line: new Set() };
      clients.set(client, mine);
      if (mine.running < each) mine.running++;
      else {
        if (mine.line.size >= mostInLine) throw tooManyRequests(1, "too many requests of this client at once");
        await new Promise<void>((resolve, reject) => {
          const leave = (): void => {
            mine.line.delete(turn);
            clearTimeout(late);
            signal.removeEventListener("abort", gone);
          };
          // Whoever ends hands its turn over: `running` stays as it is.
          const turn = (): void => {
            leave();
            resolve();
          };
          const gone = (): void => {
            leave();
            reject(new ClientGone());
          };
          const late = setTimeout(() => {
            leave();
            reject(tooManyRequests(1, "too many requests of this client at once"));
          }, withinMs);
          if (signal.aborted) return gone();
          signal.addEventListener("abort", gone);
          mine.line.add(turn);
        });
      }
      try {
        return await work();
      } finally {
        const [next] = mine.line;
        if (next) next();
        else if (--mine.running === 0) clients.delete(client);
      }
    },
  };
}
