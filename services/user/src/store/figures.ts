import { type Metrics, observePool, observeStore, setOrForget } from "@quartet/service";
import type { Database } from "./database.ts";

const STATES = ["reserved", "extended", "unreserved", "lost", "missing"] as const;

const SESSIONS = ["active", "idle", "idle in transaction", "other"] as const;

interface Figures {
  size: number;
  sessions: Record<(typeof SESSIONS)[number], number>;
  max: number;
  locks: number;
  /** Seconds. */
  oldest: number;
  /** Bytes. */
  behind: number;
  state: (typeof STATES)[number];
  active: boolean;
  retained: number | null;
  headroom: number | null;
}

/** int8 comes as a number from this pool. `safe_wal_size` is null where no limit is set. */
const FIGURES = `
SELECT pg_database_size(current_database()) AS size, coalesce(s.wal_status, 'missing') AS state, coalesce(s.active, false) AS active,
       greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn))::int8 AS retained, s.safe_wal_size AS headroom,
       a.sessions, a.oldest, current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS max,
       (SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS locks,
       (SELECT coalesce(max(greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))), 0)::int8
        FROM pg_replication_slots WHERE slot_type = 'physical') AS behind
FROM (SELECT json_build_object(
               'active', count(*) FILTER (WHERE state = 'active'), 'idle', count(*) FILTER (WHERE state = 'idle'),
               'idle in transaction', count(*) FILTER (WHERE state LIKE 'idle in transaction%'),
               'other', count(*) FILTER (WHERE state IS NULL OR state NOT IN ('active', 'idle') AND state NOT LIKE 'idle in transaction%')) AS sessions,
             coalesce(extract(epoch FROM max(clock_timestamp() - xact_start) FILTER (WHERE pid <> pg_backend_pid())), 0)::float8 AS oldest
      FROM pg_stat_activity WHERE datname = current_database()) AS a LEFT JOIN pg_replication_slots s ON s.slot_name = $1 AND s.database = current_database()`;

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
  metrics.gauge("quartet_postgres_connections", async (gauge) => {
    await looked();
    if (figures) for (const state of SESSIONS) gauge.set({ state }, figures.sessions[state]);
  });
  const own = (
    name: "connections_max" | "locks_waiting" | "transaction_age_seconds" | "standby_lag_bytes",
    read: (f: Figures) => number,
  ) =>
    metrics.gauge(`quartet_postgres_${name}`, async (gauge) => {
      await looked();
      if (figures) gauge.set(read(figures));
    });
  own("connections_max", (f) => f.max);
  own("locks_waiting", (f) => f.locks);
  own("transaction_age_seconds", (f) => f.oldest);
  own("standby_lag_bytes", (f) => f.behind);
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
