import type { ConsistencyToken } from "@quartet/contracts";
import { awaitFreshness, type Dependency, readFreshness, setAsOf } from "@quartet/service";
import type { Request, Response } from "express";
import type { SearchStore } from "../store/store.ts";
import { stored } from "../store/users.ts";

export interface SearchContext extends SearchStore {
  elasticsearch: Dependency;
  /** Waits for what the request's token asks for, says how it went, and sets `Quartet-As-Of`: read before the data. */
  freshen(req: Request, res: Response): Promise<void>;
}

export function createContext(store: SearchStore, elasticsearch: Dependency): SearchContext {
  const sees = async (token: ConsistencyToken): Promise<boolean> => {
    if (token.a?.user) {
      const asOf = await store.watermark();
      if (!asOf || Date.parse(asOf) < Date.parse(token.a.user)) return false;
    }
    const users = token.u ?? [];
    if (users.length === 0) return true;
    const ids = users.map(([id]) => id);
    const held = await stored(store.client, store.names, ids);
    if (!users.every(([id, version]) => (held.get(id)?.version ?? -1) >= version)) return false;
    // It is stored; this makes it visible, for this reader and everybody.
    await store.refresh();
    return true;
  };

  return {
    ...store,
    elasticsearch,
    async freshen(req, res) {
      const { waitMs, token } = readFreshness(req);
      if (token) await awaitFreshness(res, { waitMs, check: () => elasticsearch.run(() => sees(token)) });
      setAsOf(res, await elasticsearch.run(() => store.watermark()));
    },
  };
}
