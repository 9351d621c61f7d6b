import type { Database } from "./database.ts";

/** The number of users, exact, from 64 counters that every insert and delete keeps in its own transaction. */
export function countUsers(db: Database): Promise<number> {
  return db.run(async (client) => {
    const text = "SELECT coalesce(sum(n), 0)::bigint AS n FROM user_counts";
    return (await client.query<{ n: number }>({ name: "count-users", text })).rows[0]!.n;
  });
}

/**
 * Takes or renews a lease for work that one replica at a time does. False: another one has it.
 * @param holder a UUID of this worker
 */
export function holdLease(db: Database, name: string, holder: string, seconds: number): Promise<boolean> {
  return db.run(async (client) => {
    const { rowCount } = await client.query(
      `INSERT INTO leases AS l (name, holder, until) VALUES ($1, $2, now() + make_interval(secs => $3))
       ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
         WHERE l.holder = excluded.holder OR l.until < now()`,
      [name, holder, seconds],
    );
    return rowCount === 1;
  });
}

/** Gives a lease back, if this worker has it: another replica need not wait for its end. */
export async function releaseLease(db: Database, name: string, holder: string): Promise<void> {
  await db.run((client) => client.query("DELETE FROM leases WHERE name = $1 AND holder = $2", [name, holder]));
}

/** A worker leaves its figures here for the API, which may be another process. */
export async function reportWorker(db: Database, worker: string, figures: object): Promise<void> {
  await db.run((client) =>
    client.query(
      `INSERT INTO worker_status (worker, figures, at) VALUES ($1, $2, now())
       ON CONFLICT (worker) DO UPDATE SET figures = excluded.figures, at = excluded.at`,
      [worker, JSON.stringify(figures)],
    ),
  );
}

/** What the worker said in the last fifteen seconds, or undefined. */
export function workerReport(db: Database, worker: string): Promise<Record<string, unknown> | undefined> {
  return db.run(async (client) => {
    const text = "SELECT figures FROM worker_status WHERE worker = $1 AND at > now() - interval '15 s'";
    return (await client.query<{ figures: Record<string, unknown> }>(text, [worker])).rows[0]?.figures;
  });
}

/** WAL that PostgreSQL keeps for the relay's slot, in bytes; null without a slot. */
export function slotLag(db: Database, slot: string): Promise<number | null> {
  return db.run(async (client) => {
    const text = `SELECT greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn))::float8 AS lag
      FROM pg_replication_slots WHERE slot_name = $1`;
    return (await client.query<{ lag: number | null }>(text, [slot])).rows[0]?.lag ?? null;
  });
}
