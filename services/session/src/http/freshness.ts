import { awaitFreshness, createWaiters, type Dependency, readFreshness } from "@quartet/service";
import type { Request, Response } from "express";
import type { Profiles } from "../store/profiles.ts";

/** Waits for what the request's token asks for, and says how it went. */
export type Freshen = (req: Request, res: Response) => Promise<void>;

/** Those who wait ask Redis together; at most `maxWaiting` may, one more is answered at once. */
export function createFreshen(reads: Dependency, profiles: Profiles, maxWaiting: number): Freshen {
  const look = (tokens: Parameters<Profiles["see"]>[0]) => reads.run(() => profiles.see(tokens));
  const waiters = createWaiters({ look, max: maxWaiting });
  return async (req, res) => {
    const { waitMs, token } = readFreshness(req);
    if (token) await awaitFreshness(res, { waitMs, token, waiters });
  };
}
