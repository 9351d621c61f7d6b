import { randomBytes } from "node:crypto";
import type { Client } from "@elastic/elasticsearch";
import type { IndexNames } from "./indexes.ts";

/** How long a page may be looked at before the next one is asked for. */
export const KEEP_ALIVE = "2m";
/** Walks that begin within this time share a snapshot: the number of open ones is bounded, however many walks begin. */
const SHARED_FOR_MS = 300;
/** A last page that got lost on its way can be asked for again within this time. */
const CLOSE_AFTER_MS = 15_000;

export interface Snapshot {
  pit: string;
  /** As of when it is true; undefined while unknown. */
  asOf: string | undefined;
}

/** Frozen views of the index ("points in time"), from which all pages of a result are read. They know no query, so walks share them. */
export interface Snapshots {
  /** One that is not older than `notBefore` (as `performance.now()` tells time). */
  take(notBefore: number): Promise<Snapshot>;
  /** Somebody holds a cursor into it; the name of their walk. */
  begun(pit: string): string;
  /** This walk has had the last page, perhaps more than once. After the last walk the snapshot is closed soon; one that was left in the middle ends by itself. */
  ended(pit: string, walk: string): void;
}

export function createSnapshots(
  client: Client,
  names: IndexNames,
  watermark: () => Promise<string | undefined>,
): Snapshots {
  let newest: { since: number; snapshot: Promise<Snapshot> } | undefined;
  const walks = new Map<string, Set<string>>();
  const open = async (): Promise<Snapshot> => {
    const asOf = await watermark();
    return { asOf, pit: (await client.openPointInTime({ index: names.users, keep_alive: KEEP_ALIVE })).id };
  };
  return {
    take(notBefore) {
      const now = performance.now();
      if (!newest || newest.since < notBefore || now - newest.since > SHARED_FOR_MS) {
        const mine = { since: now, snapshot: open() };
        newest = mine;
        mine.snapshot.catch(() => {
          if (newest === mine) newest = undefined;
        });
      }
      return newest.snapshot;
    },
    begun(pit) {
      const walk = randomBytes(6).toString("base64url");
      walks.set(pit, (walks.get(pit) ?? new Set()).add(walk));
      return walk;
    },
    ended(pit, walk) {
      const open = walks.get(pit);
      if (!open?.delete(walk) || open.size > 0) return;
      walks.delete(pit);
      const close = () => void (walks.has(pit) || client.closePointInTime({ id: pit }).catch(() => {}));
      setTimeout(close, CLOSE_AFTER_MS).unref();
    },
  };
}
