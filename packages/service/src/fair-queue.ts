import type { Response } from "express";
import { ClientGone } from "./client-gone.ts";
import { type HttpProblem, tooManyRequests, unavailable } from "./problem.ts";

export interface FairQueueOptions {
  /** What it is that is short, for the 503. */
  name: string;
  /** Jobs that run at once. */
  slots: number;
  /** Jobs of one client that may wait; one more is 429. */
  perClient: number;
  /** Jobs that may wait in all; of more than these the newest of the client with the most is 503. */
  total: number;
  /** Longest wait, in milliseconds; then 503. */
  waitMs: number;
}

/** Whose turn it is, and the answer that is waited for. */
export interface Turn {
  /** See clientOf. */
  client: string;
  /** When it closes the caller has gone, and the job is not begun any more. */
  res: Pick<Response, "closed" | "once" | "off">;
  /** Waits no longer than this, if it is less than the queue's own longest wait. */
  waitMs?: number;
}

export interface FairQueue {
  /** How many wait at this moment. */
  readonly waiting: number;
  /** Runs `work` when it is its turn. Rejects with what `work` does, with 429 or 503, or with ClientGone; in the latter cases `work` was not begun. */
  run<T>(turn: Turn, work: () => Promise<T>): Promise<T>;
}

interface Waiter {
  client: string;
  begin(): void;
  refuse(problem: HttpProblem): void;
}

/**
 * Work that is dear, for clients of whom one may ask for more than there is: each client has a line of its own, and the lines take turns (round robin), so
 * that a flood delays nobody but who sends it. Nothing is begun for a caller who has gone, or who has waited too long.
 */
export function createFairQueue({ name, slots, perClient, total, waitMs }: FairQueueOptions): FairQueue {
  /** The lines of those who wait, that one first whose turn it is. */
  const lines = new Map<string, Waiter[]>();
  let free = slots;
  let waiting = 0;

  const remove = (waiter: Waiter): boolean => {
    const line = lines.get(waiter.client);
    const index = line?.indexOf(waiter) ?? -1;
    if (!line || index < 0) return false;
    line.splice(index, 1);
    waiting--;
    if (line.length === 0) lines.delete(waiter.client);
    return true;
  };

  const next = (): void => {
    const [first] = lines;
    if (!first) return void free++;
    const [client, line] = first;
    const waiter = line[0] as Waiter;
    remove(waiter);
    // Behind the others.
    if (lines.delete(client)) lines.set(client, line);
    waiter.begin();
  };

  /** Makes room for one more of `client`, or throws. */
  const admit = (client: string): void => {
    const own = lines.get(client)?.length ?? 0;
    if (own >= perClient) throw tooManyRequests(1, `too many requests of yours wait for ${name}`);
    if (waiting < total) return;
    let longest: Waiter[] = [];
    for (const line of lines.values()) if (line.length > longest.length) longest = line;
    if (longest.length <= own + 1) throw unavailable(name);
    longest.at(-1)?.refuse(unavailable(name));
  };

  const turnOf = ({ client, res, waitMs: own = waitMs }: Turn): Promise<void> =>
    new Promise((resolve, reject) => {
      const leave = (problem: HttpProblem): void => {
        if (!remove(waiter)) return;
        tidy();
        reject(problem);
      };
      const gone = () => leave(new ClientGone());
      const timer = setTimeout(() => leave(unavailable(name)), Math.min(own, waitMs));
      const tidy = (): void => {
        clearTimeout(timer);
        res.off("close", gone);
      };
      const waiter: Waiter = {
        client,
        begin() {
          tidy();
          resolve();
        },
        refuse: leave,
      };
      res.once("close", gone);
      const line = lines.get(client);
      if (line) line.push(waiter);
      else lines.set(client, [waiter]);
      waiting++;
    });

  return {
    get waiting() {
      return waiting;
    },
    async run(turn, work) {
      if (turn.res.closed) throw new ClientGone();
      if (free > 0) free--;
      else {
        admit(turn.client);
        await turnOf(turn);
      }
      try {
        return await work();
      } finally {
        next();
      }
    },
  };
}
