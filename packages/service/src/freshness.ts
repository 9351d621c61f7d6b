import { type ConsistencyToken, decodeToken, MalformedToken } from "@quartet/contracts";
import type { Request, Response } from "express";
import { type Awaited, ClientGone } from "./client-gone.ts";
import { splitList } from "./lists.ts";
import { metrics } from "./metrics.ts";
import { badRequest } from "./problem.ts";

/** The longest wait a caller may ask for, in seconds. */
const maxWaitSeconds = 10;

/** The last look has so long, however little of the wait is left. */
const SHORTEST_LOOK_MS = 100;

export interface Freshness {
  /** How long the caller wants to wait, in ms; 0 if it did not ask. */
  waitMs: number;
  /** What the caller wants to see; undefined if it said nothing. */
  token: ConsistencyToken | undefined;
}

/** `Prefer: wait=N` (RFC 7240; N whole seconds, capped at 10) and `Consistency-Token` of a request. A malformed token is 400 naming the header; a malformed Prefer is ignored, as the RFC says. */
export function readFreshness(req: Request): Freshness {
  const header = req.headers["consistency-token"];
  let token: ConsistencyToken | undefined;
  if (typeof header === "string" && header !== "") {
    try {
      token = decodeToken(header);
    } catch (error) {
      if (!(error instanceof MalformedToken)) throw error;
      throw badRequest({ path: "Consistency-Token", message: "is not a token of ours" });
    }
  }
  return { waitMs: parseWait(req.headers.prefer) * 1000, token };
}

/** The `wait` preference in seconds, 0 if there is none: `respond-async, wait=2; foo="a, b"`. The first one counts. */
export function parseWait(prefer: string | string[] | undefined): number {
  const text = Array.isArray(prefer) ? prefer.join(",") : (prefer ?? "");
  for (const preference of splitList(text)) {
    const match = /^\s*wait\s*=\s*(?:"(\d{1,9})"|(\d{1,9}))\s*(?:;|$)/i.exec(preference);
    if (match) return Math.min(Number(match[1] ?? match[2]), maxWaitSeconds);
    if (/^\s*wait\s*(?:=|;|$)/i.test(preference)) return 0;
  }
  return 0;
}

export interface WaitersOptions<Wish> {
  /**
   * One question to the store for all of them: whether it shows what each wish asks for, in the same order. It has to end, by an answer or an error, within a
   * deadline of its own. An error is told to all who were asked about, and to those who had not been looked for yet.
   */
  look(wishes: Wish[]): Promise<boolean[]>;
  /** How many may wait at the same time. Beyond it the answer is no, at once. */
  max: number;
  /** Between the beginnings of two looks pass at least so many milliseconds. Default 25. */
  everyMs?: number;
  /** So many wishes at most are in one look, those first that have not been looked for. Default 100. */
  perLook?: number;
}

/** Readers of one process who wait for the same store. */
export interface Waiters<Wish> {
  /** How many wait at this moment. */
  readonly waiting: number;
  /**
   * Whether the store shows what `wish` asks for, at the latest `waitMs` from now (0: after one look). Rejects with the error of a look, and with ClientGone as
   * soon as `res` is closed.
   */
  until(wish: Wish, options: { waitMs: number; res: Awaited }): Promise<boolean>;
}

interface Waiter<Wish> {
  wish: Wish;
  looks: number;
  /** When the next look is due, and when the wait is over, as `performance.now()` tells time. */
  due: number;
  deadline: number;
  tell(outcome: boolean | Error): void;
}

/**
 * Readers who wait ask the store together: one look for all of them, however many they are, with a pause between two looks. For each of them looks become due
 * after 5 ms, then ever later, at most 150 ms. A later look that has no answer when the wait is over counts as no, and is left to itself.
 */
export function createWaiters<Wish>({ look, max, everyMs = 25, perLook = 100 }: WaitersOptions<Wish>): Waiters<Wish> {
  const waitingNow = metrics.gauge("quartet_reads_waiting");
  const refused = metrics.counter("quartet_reads_not_awaited_total");
  /** In the order in which they were looked for. */
  const waiters = new Set<Waiter<Wish>>();
  let looking = false;
  let begun = Number.NEGATIVE_INFINITY;
  let timer: NodeJS.Timeout | undefined;

  const plan = (): void => {
    clearTimeout(timer);
    if (looking || waiters.size === 0) return;
    let due = Number.POSITIVE_INFINITY;
    for (const waiter of waiters) due = Math.min(due, waiter.due);
    timer = setTimeout(lookForAll, Math.max(0, Math.max(due, begun + everyMs) - performance.now()));
  };

  const lookForAll = async (): Promise<void> => {
    // They may all have left meanwhile.
    if (waiters.size === 0) return;
    looking = true;
    begun = performance.now();
    const asked = [...waiters].sort((a, b) => Number(a.looks > 0) - Number(b.looks > 0)).slice(0, perLook);
    try {
      const answers = await look(asked.map(({ wish }) => wish));
      const now = performance.now();
      for (const [i, waiter] of asked.entries()) {
        // Whoever has left is told nothing more.
        if (!waiters.delete(waiter)) continue;
        waiter.looks++;
        if (answers[i] || now >= waiter.deadline) {
          waiter.tell(answers[i] === true);
          continue;
        }
        // The last look is at the end of the wait; the next batch is seldom closer than 150 ms.
        waiter.due = Math.min(now + Math.min(5 * 2 ** (waiter.looks - 1), 150), waiter.deadline);
        waiters.add(waiter);
      }
    } catch (error) {
      // Those who came meanwhile as well: they have waited for a store that does not answer.
      const told = new Set([...asked, ...[...waiters].filter(({ looks }) => looks === 0)]);
      for (const waiter of told) if (waiters.delete(waiter)) waiter.tell(error as Error);
    } finally {
      looking = false;
      plan();
    }
  };

  return {
    get waiting() {
      return waiters.size;
    },
    async until(wish, { waitMs, res }) {
      if (res.closed) throw new ClientGone();
      if (waiters.size >= max) {
        refused.inc();
        return false;
      }
      const now = performance.now();
      const deadline = now + waitMs;
      let late: NodeJS.Timeout | undefined;
      let gone: (() => void) | undefined;
      waitingNow.inc();
      try {
        return await new Promise<boolean>((resolve, reject) => {
          const tell = (outcome: boolean | Error) =>
            typeof outcome === "boolean" ? resolve(outcome) : reject(outcome);
          const waiter: Waiter<Wish> = { wish, looks: 0, due: now, deadline, tell };
          const leave = (outcome: boolean | Error): void => {
            waiters.delete(waiter);
            tell(outcome);
          };
          gone = () => leave(new ClientGone());
          res.once("close", gone);
          waiters.add(waiter);
          // Whether the store answers at all is for the first look to find out, which may take as long as its own deadline.
          const over = () => {
            if (waiter.looks > 0) leave(false);
          };
          if (waitMs > 0) late = setTimeout(over, waitMs + SHORTEST_LOOK_MS);
          plan();
        });
      } finally {
        waitingNow.dec();
        clearTimeout(late);
        if (gone) res.off("close", gone);
      }
    },
  };
}

/**
 * Waits until the store shows what the token asks for, at most `waitMs` (0: looks once), and says so in the answer: `Preference-Applied: wait` if it does,
 * `Quartet-Freshness: stale` if not. Returns whether it is fresh. Call it only if the request had a token.
 * With `waiters` it asks together with all others who wait (see createWaiters); with `check` alone, which is for what only this request can be asked.
 */
export async function awaitFreshness(
  res: Response,
  options:
    | { waitMs: number; token: ConsistencyToken; waiters: Waiters<ConsistencyToken> }
    | { waitMs: number; check: () => Promise<boolean> | boolean },
): Promise<boolean> {
  const { waitMs } = options;
  const fresh =
    "waiters" in options
      ? await options.waiters.until(options.token, { waitMs, res })
      : await createWaiters<undefined>({ look: async () => [await options.check()], max: 1, everyMs: 5 }).until(
          undefined,
          { waitMs, res },
        );
  if (!fresh) res.setHeader("Quartet-Freshness", "stale");
  else if (waitMs > 0) res.setHeader("Preference-Applied", "wait");
  return fresh;
}

/** `Quartet-As-Of`: everything committed before it is in this answer. Nothing is set if it is unknown. */
export function setAsOf(res: Response, at: Date | string | undefined): void {
  if (at === undefined) return;
  res.setHeader("Quartet-As-Of", typeof at === "string" ? at : at.toISOString());
}
