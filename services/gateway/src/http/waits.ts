import { metrics } from "@quartet/service";

/** Reads that wait, counted by client. */
export interface Waits {
  /** A place to wait, given back by calling what is returned; undefined if there is none left for this client, or for anybody. */
  enter(client: string | undefined): (() => void) | undefined;
}

/** At most `all` reads wait at the same time, and at most `each` of one client. A client that is undefined counts only among all. */
export function createWaits({ all, each }: { all: number; each: number }): Waits {
  const waiting = metrics.gauge("quartet_reads_waiting");
  const refused = metrics.counter("quartet_reads_not_awaited_total");
  const clients = new Map<string, number>();
  let count = 0;
  return {
    enter(client) {
      const ofClient = client === undefined ? 0 : (clients.get(client) ?? 0);
      if (count >= all || ofClient >= each) {
        refused.inc();
        return undefined;
      }
      waiting.set(++count);
      if (client !== undefined) clients.set(client, ofClient + 1);
      let inside = true;
      return () => {
        if (!inside) return;
        inside = false;
        waiting.set(--count);
        if (client === undefined) return;
        const left = (clients.get(client) ?? 1) - 1;
        if (left > 0) clients.set(client, left);
        else clients.delete(client);
      };
    },
  };
}
