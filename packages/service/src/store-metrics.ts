import { type Metrics, setOrForget } from "./metrics.ts";

export type StoreName = "postgres" | "redis" | "clickhouse" | "elasticsearch" | "nats";

/** What a store tells of itself, in bytes; absent or null where it does not. */
export interface StoreFigures {
  size?: number | null;
  capacity?: number | null;
  available?: number | null;
}

const LOOK_MS = 1_200;
/** Scrapes of several Prometheus servers, and the gauges of one scrape, share a look. */
const FRESH_MS = 500;

/**
 * Asks the store at every scrape whether it is there and how much room it has. `look` must fail when the store is away; whatever takes longer than 1.2 s
 * counts as away. The last known sizes stay. Returns what a further gauge has to await, so that it tells of the same look.
 */
export function observeStore(
  metrics: Metrics,
  store: StoreName,
  look: () => Promise<StoreFigures>,
): () => Promise<boolean> {
  let last: { at: number; done: Promise<boolean> } | undefined;
  let known: StoreFigures = {};
  const ask = async (): Promise<boolean> => {
    try {
      known = await within(LOOK_MS, look());
      return true;
    } catch {
      return false;
    }
  };
  const looked = (): Promise<boolean> => {
    if (!last || performance.now() - last.at > FRESH_MS) last = { at: performance.now(), done: ask() };
    return last.done;
  };
  metrics.gauge("quartet_store_up", async (gauge) => gauge.set({ store }, (await looked()) ? 1 : 0));
  const figure = (name: "size" | "capacity" | "available") =>
    metrics.gauge(`quartet_store_${name}_bytes`, async (gauge) => {
      await looked();
      setOrForget(gauge, { store }, known[name]);
    });
  figure("size");
  figure("capacity");
  figure("available");
  return looked;
}

/** NATS as a service sees it that only uses it: whether its connection stands. */
export function observeBroker(metrics: Metrics, broker: { readonly up: boolean }): void {
  metrics.gauge("quartet_store_up", (gauge) => gauge.set({ store: "nats" }, broker.up ? 1 : 0));
}

export interface PoolFigures {
  idle: number;
  used: number;
  max: number;
  waiting: number;
}

/** The figures of a client pool, read at every scrape. */
export function observePool(metrics: Metrics, dependency: string, read: () => PoolFigures): void {
  metrics.gauge("quartet_pool_connections", (gauge) => {
    const { idle, used } = read();
    gauge.set({ dependency, state: "idle" }, idle);
    gauge.set({ dependency, state: "used" }, used);
  });
  metrics.gauge("quartet_pool_connections_max", (gauge) => gauge.set({ dependency }, read().max));
  metrics.gauge("quartet_pool_waiting", (gauge) => gauge.set({ dependency }, read().waiting));
}

/** How far the rebuild of a store is, asked at every scrape. */
export function observeRebuild(
  metrics: Metrics,
  store: string,
  read: () => Promise<{ state: "none" | "running" | "complete"; done: number; total: number }>,
): void {
  const look = () => within(LOOK_MS, read());
  metrics.gauge("quartet_rebuild_running", async (gauge) =>
    gauge.set({ store }, (await look()).state === "running" ? 1 : 0),
  );
  metrics.gauge("quartet_rebuild_progress", async (gauge) => {
    const { state, done, total } = await look();
    const share = total > 0 ? Math.min(1, done / total) : 0;
    setOrForget(gauge, { store }, state === "none" ? null : state === "complete" ? 1 : share);
  });
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  work.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
