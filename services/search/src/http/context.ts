import type { ConsistencyToken } from "@quartet/contracts";
import { awaitFreshness, createWaiters, type Dependency, readFreshness, setAsOf, whileAwaited } from "@quartet/service";
import type { Request, Response } from "express";
import { visible } from "../store/search.ts";
import type { SearchStore } from "../store/store.ts";

export interface SearchContext extends SearchStore {
  elasticsearch: Dependency;
  /**
   * Asks the store for whoever waits for this response: cancelled when they go away, or at the deadline. Who waits for a moment anyhow (see `freshen`) has
   * until that is over, if it is later.
   */
  askFor<T>(res: Response, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Waits for what the request's token asks for, says how it went, and sets `Quartet-As-Of`: read before the data. */
  freshen(req: Request, res: Response): Promise<void>;
}

export interface ContextOptions {
  /** Readers who may wait at the same time. */
  maxWaiting: number;
}

/** What a read has that waits for nothing. */
const ANSWER_MS = 1500;
/** The gateway waits for a second longer than the reader wants to. */
const AFTER_WAIT_MS = 700;

export function createContext(
  store: SearchStore,
  elasticsearch: Dependency,
  { maxWaiting }: ContextOptions,
): SearchContext {
  /** When each of those who wait stops waiting, as `performance.now()` tells time. */
  const patience = new WeakMap<Response, number>();
  const waiters = createWaiters<ConsistencyToken>({
    max: maxWaiting,
    look: (tokens) => elasticsearch.run((signal) => sees(store, tokens, signal)),
  });

  return {
    ...store,
    elasticsearch,
    askFor: (res, work) => {
      const until = patience.get(res) ?? Number.NEGATIVE_INFINITY;
      const timeoutMs = Math.max(ANSWER_MS, until + AFTER_WAIT_MS - performance.now());
      const ask = (late: AbortSignal) => whileAwaited(res, (gone) => work(AbortSignal.any([late, gone])));
      return elasticsearch.run(ask, { timeoutMs });
    },
    async freshen(req, res) {
      const { waitMs, token } = readFreshness(req);
      patience.set(res, performance.now() + waitMs);
      if (token) await awaitFreshness(res, { waitMs, token, waiters });
      setAsOf(res, await elasticsearch.run(() => store.watermark()));
    },
  };
}

/**
 * Whether a search sees what each token asks for: one read of the watermark and one of the versions for all of them. The projector makes visible what it
 * writes; readers who did so as well would make a segment each.
 */
async function sees(store: SearchStore, tokens: ConsistencyToken[], signal: AbortSignal): Promise<boolean[]> {
  const ids = [...new Set(tokens.flatMap(({ u = [] }) => u.map(([id]) => id)))];
  const [asOf, held] = await Promise.all([
    tokens.some(({ a }) => a?.user) ? store.watermark() : undefined,
    visible(store.client, { index: store.names.users }, ids, signal),
  ]);
  const reached = asOf ? Date.parse(asOf) : Number.NEGATIVE_INFINITY;
  return tokens.map(
    ({ a, u = [] }) =>
      (!a?.user || reached >= Date.parse(a.user)) && u.every(([id, version]) => (held.get(id) ?? -1) >= version),
  );
}
