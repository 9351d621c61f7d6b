import { randomBytes } from "node:crypto";
import type { Client } from "@elastic/elasticsearch";
import { shared } from "../shared.ts";
import type { IndexNames } from "./indexes.ts";

const KEEP_ALIVE_MS = 2 * 60_000;
/** How long a page may be looked at before the next one is asked for. */
export const KEEP_ALIVE = `${KEEP_ALIVE_MS}ms`;
/** Walks that begin within this time share a snapshot: the number of open ones is bounded, however many walks begin. */
const SHARED_FOR_MS = 300;
/** And between two snapshots passes at least this, also for those who must not see an older one. */
const SPACING_MS = 100;
/** A last page that got lost on its way can be asked for again within this time. */
const CLOSE_AFTER_MS = 15_000;
/** So many walks of one snapshot are remembered. Beyond them it is not closed early: it ends by itself. */
const MOST_WALKS = 100;

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
  /** How much is remembered of walks, in entries. */
  readonly remembered: number;
}

/** The walks of a snapshot; those who closes it wants to know are all there. */
interface Walks {
  since: number;
  open: Set<string>;
  /** Some are not remembered. */
  more: boolean;
}

export function createSnapshots(
  client: Client,
  names: IndexNames,
  watermark: () => Promise<string | undefined>,
  { keepAliveMs = KEEP_ALIVE_MS } = {},
): Snapshots {
  let newest: { since: number; snapshot: Snapshot } | undefined;
  let opening: { since: number; snapshot: Promise<Snapshot> } | undefined;
  /** The oldest first. What is older than a snapshot lives without being looked at is forgotten: walks that go on longer let it end by itself. */
  const walks = new Map<string, Walks>();
  const make = async (): Promise<Snapshot> => {
    const asOf = await watermark();
    const { id } = await client.openPointInTime({ index: names.users, keep_alive: `${keepAliveMs}ms` });
    return { pit: id, asOf };
  };
  const open = shared(async () => {
    const since = performance.now();
    opening = { since, snapshot: make() };
    try {
      const snapshot = await opening.snapshot;
      newest = { since, snapshot };
      return snapshot;
    } finally {
      opening = undefined;
    }
  }, SPACING_MS);
  const forgetOld = (now: number): void => {
    for (const [pit, { since }] of walks) {
      if (now - since < keepAliveMs) return;
      walks.delete(pit);
    }
  };
  return {
    async take(notBefore) {
      const now = performance.now();
      if (newest && newest.since >= notBefore && now - newest.since <= SHARED_FOR_MS) return newest.snapshot;
      return opening && opening.since >= notBefore ? opening.snapshot : open();
    },
    begun(pit) {
      const now = performance.now();
      forgetOld(now);
      const known = walks.get(pit) ?? { since: now, open: new Set(), more: false };
      walks.set(pit, known);
      const walk = randomBytes(6).toString("base64url");
      if (known.open.size < MOST_WALKS) known.open.add(walk);
      else known.more = true;
      return walk;
    },
    ended(pit, walk) {
      const known = walks.get(pit);
      if (!known?.open.delete(walk) || known.open.size > 0 || known.more) return;
      walks.delete(pit);
      const close = () => void (walks.has(pit) || client.closePointInTime({ id: pit }).catch(() => {}));
      setTimeout(close, CLOSE_AFTER_MS).unref();
    },
    get remembered() {
      return [...walks.values()].reduce((sum, { open }) => sum + 1 + open.size, 0);
    },
  };
}
