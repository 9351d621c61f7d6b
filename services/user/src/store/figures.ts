import { type Metrics, observePool, observeStore, setOrForget } from "@quartet/service";
import type { Database } from "./database.ts";

const STATES = ["reserved", "extended", "unreserved", "lost", "missing"] as const;

interface Figures {
  size: number;
  state: (typeof STATES)[number];
  active: boolean;
  retained: number | null;
  headroom: number | null;
}

/** int8 comes as a number from this pool. `safe_wal_size` is null where no limit is set. */
const FIGURES = `
SELECT pg_database_size(current_database()) AS size, coalesce(s.wal_status, 'missing') AS state, coalesce(s.active, false) AS active,
       greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn))::int8 AS retained, s.safe_wal_size AS headroom
FROM (SELECT) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = $1 AND s.database = current_database()`;

/** What PostgreSQL says of itself and of the relay's slot, whether or not anybody relays; and the pool. */
export function observeDatabase(metrics: Metrics, db: Database, slot: string): void {
  let figures: Figures | undefined;
  const looked = observeStore(metrics, "postgres", async () => {
    const { rows } = await db.run((client) => client.query<Figures>(FIGURES, [slot]));
    figures = rows[0] as Figures;
    return { size: figures.size };
  });
  const figure = (name: "active" | "retained_bytes" | "headroom_bytes", read: (f: Figures) => number | null) =>
    metrics.gauge(`quartet_outbox_slot_${name}`, async (gauge) => {
      await looked();
      if (figures) setOrForget(gauge, {}, read(figures));
    });
  figure("active", (f) => (f.active ? 1 : 0));
  figure("retained_bytes", (f) => f.retained);
  figure("headroom_bytes", (f) => f.headroom);
  metrics.gauge("quartet_outbox_slot_state", async (gauge) => {
    await looked();
    if (figures) for (const state of STATES) gauge.set({ state }, state === figures.state ? 1 : 0);
  });
  const { pool } = db;
  observePool(metrics, "postgres", () => ({
    idle: pool.idleCount,
    used: pool.totalCount - pool.idleCount,
    max: pool.options.max ?? 10,
    waiting: pool.waitingCount,
  }));
}
