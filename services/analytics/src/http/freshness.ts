import { type ConsistencyToken, factId } from "@quartet/contracts";
import { awaitFreshness, createWaiters, readFreshness, remembered, setAsOf } from "@quartet/service";
import type { Request, Response } from "express";
import type { ClickHouse } from "../store/client.ts";
import { countedAmong } from "../store/facts.ts";
import { asOf, readWatermarks, type Watermarks } from "../store/watermarks.ts";

/** How far the projector is in which incarnation of FACTS. */
export interface Reached {
  streamCreated: string;
  settled: number;
}

/**
 * Waits for what the request's token asks for, says how it went, and sets `Quartet-As-Of`: read before the data, so that the data is at least as new.
 */
export type Freshen = (req: Request, res: Response) => Promise<void>;

/** A slightly older claim is still true. */
const CACHED_MS = 100;

/** @param reached rejects while it cannot be known: whoever waits for a position is told that it is not reached */
export function createFreshen(options: {
  clickhouse: ClickHouse;
  reached(): Promise<Reached>;
  /** Readers who may wait at the same time; one more is answered at once, as stale. */
  maxWaiting: number;
}): Freshen {
  const { clickhouse } = options;
  const watermarks = remembered(CACHED_MS, () => readWatermarks(clickhouse));

  /** One question to the store, and one to the broker, for all of them. What was seen once is not asked for again. */
  const look = async (wishes: ConsistencyToken[]): Promise<boolean[]> => {
    const ids = wishes.map(idsOf);
    const positions = wishes.some((wish) => wish.t);
    const [counted, position, marks] = await Promise.all([
      countedAmong(clickhouse, [...new Set(ids.flat())]),
      positions ? options.reached().catch(() => undefined) : undefined,
      wishes.some((wish) => wish.a) ? watermarks() : {},
    ]);
    return wishes.map((wish, i) => {
      if ((ids[i] as string[]).every((id) => counted.has(id))) {
        delete wish.u;
        delete wish.f;
      }
      if (wish.t && position && hasPassed(position, wish.t)) delete wish.t;
      return !wish.u && !wish.f && !wish.t && (!wish.a || isReached(wish.a, marks));
    });
  };
  const waiters = createWaiters<ConsistencyToken>({ look, max: options.maxWaiting });

  return async (req, res) => {
    const { waitMs, token } = readFreshness(req);
    if (token) await awaitFreshness(res, { waitMs, token: { ...token }, waiters });
    setAsOf(res, asOf(await watermarks()));
  };
}

/** The facts that have to be counted. */
function idsOf({ u = [], f = [] }: ConsistencyToken): string[] {
  return [...f, ...u.map(([id, version]) => factId.user(id, version))];
}

function hasPassed({ streamCreated, settled }: Reached, { seq, stream }: NonNullable<ConsistencyToken["t"]>): boolean {
  return Date.parse(streamCreated) === Date.parse(stream) && settled >= seq;
}

function isReached(wanted: NonNullable<ConsistencyToken["a"]>, watermarks: Watermarks): boolean {
  return (["user", "session"] as const).every((source) => {
    const at = wanted[source];
    return at === undefined || (watermarks[source]?.getTime() ?? -1) >= Date.parse(at);
  });
}
