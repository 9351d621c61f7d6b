import type { ConsistencyToken } from "@quartet/contracts";
import { awaitFreshness, type Dependency, readFreshness, setAsOf } from "@quartet/service";
import type { Request, Response } from "express";
import type { SearchStore } from "../store/store.ts";

export interface SearchContext extends SearchStore {
  elasticsearch: Dependency;
  /** Waits for what the request's token asks for, says how it went, and sets `Quartet-As-Of`: read before the data. */
  freshen(req: Request, res: Response): Promise<void>;
}

const CACHED_MS = 100;

export function createContext(store: SearchStore, elasticsearch: Dependency): SearchContext {
  let cached: { at: number; value: Promise<string | undefined> } | undefined;
  /** A slightly older watermark is still true. */
  const watermark = (): Promise<string | undefined> => {
    if (!cached || performance.now() - cached.at > CACHED_MS) {
      const value = elasticsearch.run(() => store.readWatermark());
      cached = { at: performance.now(), value };
      value.catch(() => {
        cached = undefined;
      });
    }
    return cached.value;
  };

  const sees = async (token: ConsistencyToken): Promise<boolean> => {
    if (token.a?.user && ((await watermark()) ?? "") < token.a.user) return false;
    if (!token.u || token.u.length === 0) return true;
    const versions = await elasticsearch.run(() => store.storedVersions((token.u ?? []).map(([id]) => id)));
    if (!token.u.every(([id, version]) => (versions.get(id) ?? -1) >= version)) return false;
    // It is stored; this makes it visible, for this reader and everybody.
    await elasticsearch.run(() => store.refresh());
    return true;
  };

  return {
    ...store,
    elasticsearch,
    async freshen(req, res) {
      const { waitMs, token } = readFreshness(req);
      if (token) await awaitFreshness(res, { waitMs, check: () => sees(token) });
      setAsOf(res, await watermark());
    },
  };
}
