/** The keys of one outbox. In a Redis Cluster give a prefix with a hash tag (`{outbox}`), so that all of them share a slot. */
export function outboxKeys(prefix: string) {
  return {
    /** Stream of the events. */
    events: `${prefix}:events`,
    /** Hash: `entry` = last entry that is relayed for good, `added` = how many entries had ever been added by then. */
    cursor: `${prefix}:cursor`,
    /** String with an expiry: the token of the replica that relays. */
    lease: `${prefix}:lease`,
    /** Counter: grows with every lease. */
    epoch: `${prefix}:epoch`,
    /** Last entry that retention has removed. */
    trimmed: `${prefix}:trimmed`,
    /** List of checkpoints (JSON), newest first. */
    checkpoints: (stream: string) => `${prefix}:checkpoints:${stream}`,
    /** Sorted set: the entries of one key. */
    key: (key: string) => `${prefix}:key:${key}`,
  };
}

export const FIRST_ENTRY = "0-0";

/** Order of two stream entry ids (`<ms>-<n>`). */
export function compareEntries(a: string, b: string): number {
  const [aMs, aN] = a.split("-").map(Number) as [number, number];
  const [bMs, bN] = b.split("-").map(Number) as [number, number];
  return aMs - bMs || aN - bN;
}

export function entryTime(entry: string): number {
  return Number(entry.slice(0, entry.indexOf("-")));
}
