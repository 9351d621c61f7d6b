import { setTimeout as sleep } from "node:timers/promises";
import { type ConsistencyToken, decodeToken, MalformedToken } from "@quartet/contracts";
import type { Request, Response } from "express";
import { badRequest } from "./problem.ts";

/** The longest wait a caller may ask for, in seconds. */
export const maxWaitSeconds = 10;

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
  const preferences = text.match(/(?:"(?:\\.|[^"\\])*"|[^,"])+/g) ?? [];
  for (const preference of preferences) {
    const match = /^\s*wait\s*=\s*(?:"(\d{1,9})"|(\d{1,9}))\s*(?:;|$)/i.exec(preference);
    if (match) return Math.min(Number(match[1] ?? match[2]), maxWaitSeconds);
    if (/^\s*wait\s*(?:=|;|$)/i.test(preference)) return 0;
  }
  return 0;
}

/**
 * Waits until `check` says that the store shows what the token asks for, at most `waitMs` (0: looks once), and says so in the answer:
 * `Preference-Applied: wait` if it does, `Quartet-Freshness: stale` if not. Looks again after 5 ms, then ever later, at most every 150 ms.
 * An error of `check` passes on; a later look that has no answer when the wait is over counts as no, and is left to itself. Returns whether it is fresh. Call it only if the request had a token.
 */
export async function awaitFreshness(
  res: Response,
  options: { waitMs: number; check: () => Promise<boolean> | boolean },
): Promise<boolean> {
  const deadline = performance.now() + options.waitMs;
  const lookAgain = async (): Promise<boolean> => {
    const over = new AbortController();
    // The store may be slow to say so; whoever gave a limit is answered with what there is when it is reached.
    const late = sleep(Math.max(SHORTEST_LOOK_MS, deadline - performance.now()), false, { signal: over.signal });
    late.catch(() => {});
    const answer = Promise.resolve(options.check());
    answer.catch(() => {});
    return Promise.race([answer, late]).finally(() => over.abort());
  };
  let pause = 5;
  // Whether the store answers at all is for the first look to find out.
  let fresh = await options.check();
  while (!fresh && !res.closed) {
    const left = deadline - performance.now();
    if (left <= 0) break;
    await sleep(Math.min(pause, left));
    // Each look is a question to the store, and the next batch is seldom closer than this.
    pause = Math.min(pause * 2, 150);
    fresh = await lookAgain();
  }
  if (!fresh) res.setHeader("Quartet-Freshness", "stale");
  else if (options.waitMs > 0) res.setHeader("Preference-Applied", "wait");
  return fresh;
}

/** `Quartet-As-Of`: everything committed before it is in this answer. Nothing is set if it is unknown. */
export function setAsOf(res: Response, at: Date | string | undefined): void {
  if (at === undefined) return;
  res.setHeader("Quartet-As-Of", typeof at === "string" ? at : at.toISOString());
}
