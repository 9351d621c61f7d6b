import { randomUUID } from "node:crypto";
import pg from "pg";

/**
 * Takes a copy of all tables of a PostgreSQL database, as of one moment; what it returns puts it back, as the restore of a dump would in another cluster. No
 * process may work on the database meanwhile. `url`: of the administrator.
 */
export async function copyDatabase(url: string): Promise<() => Promise<void>> {
  const copy = `copy_${randomUUID().replaceAll("-", "")}`;
  const each = async (statements: (table: string) => string[], last: string): Promise<void> => {
    const sql = new pg.Client({ connectionString: url });
    await sql.connect();
    try {
      // Without the triggers that count: the counters are tables too.
      await sql.query("BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL session_replication_role = replica");
      const { rows } = await sql.query(
        `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition`,
      );
      await sql.query(`CREATE SCHEMA IF NOT EXISTS ${copy}`);
      for (const { relname } of rows) for (const statement of statements(relname)) await sql.query(statement);
      await sql.query(`${last}; COMMIT`);
    } finally {
      await sql.end();
    }
  };
  await each((table) => [`CREATE TABLE ${copy}.${table} AS TABLE public.${table}`], "SELECT 1");
  return () =>
    each(
      (table) => [
        `DELETE FROM public.${table}`,
        `INSERT INTO public.${table} OVERRIDING SYSTEM VALUE TABLE ${copy}.${table}`,
      ],
      `DROP SCHEMA ${copy} CASCADE; UPDATE public.restore_epoch SET cluster = 'another'`,
    );
}
