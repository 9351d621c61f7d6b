import type { ConsistencyToken } from "@quartet/contracts";
import { awaitFreshness, createWaiters, type Dependency, readFreshness, setAsOf, whileAwaited } from "@quartet/service";
import type { Request, Response } from "express";
import type { SearchStore } from "../store/store.ts";
import { stored } from "../store/users.ts";

export interface SearchContext extends SearchStore {
  elasticsearch: Dependency;
  /** Asks the store for whoever waits for this response: cancelled when they go away, or at the deadline. */
  askFor<T>(res: Response, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Waits for what the request's token asks for, says how it went, and sets `Quartet-As-Of`: read before the data. */
  freshen(req: Request, res: Response): Promise<void>;
}

export interface ContextOptions {
  /** Readers who may wait at the same time. */
  maxWaiting: number;
}

export function createContext(
  store: SearchStore,
  elasticsearch: Dependency,
  { maxWaiting }: ContextOptions,
): SearchContext {
  const waiters = createWaiters<ConsistencyToken>({
    max: maxWaiting,
    look: (tokens) => elasticsearch.run((signal) => sees(store, tokens, signal)),
  });

  return {
    ...store,
    elasticsearch,
    askFor: (res, work) =>
      elasticsearch.run((late) => whileAwaited(res, (gone) => work(AbortSignal.any([late, gone])))),
    async freshen(req, res) {
      const { waitMs, token } = readFreshness(req);
      if (token) await awaitFreshness(res, { waitMs, token, waiters });
      setAsOf(res, await elasticsearch.run(() => store.watermark()));
    },
  };
}

/** Whether the index shows what each token asks for: one read of the watermark, one of the versions, and one refresh for all of them. */
async function sees(store: SearchStore, tokens: ConsistencyToken[], signal: AbortSignal): Promise<boolean[]> {
  const ids = [...new Set(tokens.flatMap(({ u = [] }) => u.map(([id]) => id)))];
  const [asOf, held] = await Promise.all([
    tokens.some(({ a }) => a?.user) ? store.watermark() : undefined,
    stored(store.client, store.names, ids, signal),
  ]);
  const reached = asOf ? Date.parse(asOf) : Number.NEGATIVE_INFINITY;
  const answers = tokens.map(
    ({ a, u = [] }) =>
      (!a?.user || reached >= Date.parse(a.user)) &&
      u.every(([id, version]) => (held.get(id)?.version ?? -1) >= version),
  );
  // What is stored becomes visible, for these readers and everybody.
  if (tokens.some(({ u = [] }, i) => answers[i] && u.length > 0)) await store.refresh();
  return answers;
}
