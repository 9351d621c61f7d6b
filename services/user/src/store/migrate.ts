import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import pg from "pg";

/** One step of the schema. Steps run in the given order and never change once released. */
export interface Migration {
  name: string;
  sql: string;
  /** The step is idempotent and runs again whenever it has changed: the tables of a package that has versions of its own. */
  repeatable?: boolean;
}

/** Any number will do, as long as every replica takes the same. */
const LOCK = 7_214_009;

/** The migrations of this folder, by name. */
export function ownMigrations(): Migration[] {
  const folder = new URL("./migrations/", import.meta.url);
  return readdirSync(folder)
    .filter((file) => /^\d{4}_\w+\.sql$/.test(file))
    .sort()
    .map((file) => ({ name: file.slice(0, -4), sql: readFileSync(new URL(file, folder), "utf8") }));
}

/**
 * Brings the schema up to date and returns the names of the steps it took. Safe from several processes at once: each step runs in its own
 * transaction under one advisory lock, and is looked up again once the lock is held. Steps a newer version took are left alone, so an older
 * version keeps running beside it: a step only expands (new tables, nullable or defaulted columns); what is no longer used is dropped by a step of
 * a later release. Throws if a step that was taken has been edited since.
 */
export async function migrate(url: string, migrations: Migration[], signal?: AbortSignal): Promise<string[]> {
  const client = new pg.Client({
    connectionString: url,
    application_name: "quartet-user-migrate",
    connectionTimeoutMillis: 3000,
    lock_timeout: 60_000,
    statement_timeout: 600_000,
  });
  client.on("error", () => {});
  const abort = (): void => void client.end().catch(() => {});
  signal?.addEventListener("abort", abort, { once: true });
  const taken: string[] = [];
  try {
    await client.connect();
    for (const migration of migrations) if (await step(client, migration)) taken.push(migration.name);
    return taken;
  } finally {
    signal?.removeEventListener("abort", abort);
    await client.end().catch(() => {});
  }
}

async function step(client: pg.Client, migration: Migration): Promise<boolean> {
  const checksum = createHash("sha256").update(migration.sql).digest("hex");
  await client.query("BEGIN");
  try {
    await client.query("SELECT pg_advisory_xact_lock($1)", [LOCK]);
    await client.query(
      `CREATE TABLE IF NOT EXISTS schema_migrations (
         name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`,
    );
    const known = await client.query("SELECT checksum FROM schema_migrations WHERE name = $1", [migration.name]);
    const applied = known.rows[0]?.checksum === checksum;
    if (!applied) {
      if (known.rowCount !== 0 && !migration.repeatable) {
        throw new Error(`migration ${migration.name} was edited after it had been taken: add a new one instead`);
      }
      await client.query(migration.sql);
      await client.query(
        `INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = now()`,
        [migration.name, checksum],
      );
    }
    await client.query("COMMIT");
    return !applied;
  } catch (error) {
    await client.query("ROLLBACK").catch(() => {});
    throw error;
  }
}
