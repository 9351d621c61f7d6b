import type { ErasedPerson, RegistryState } from "@quartet/contracts";
import type { Database, Queryable } from "./database.ts";

interface Row {
  hash: string;
  erasure_id: string | null;
  requested_at: Date | null;
  session_at: Date | null;
  search_at: Date | null;
  analytics_at: Date | null;
  completed_at: Date | null;
  gone_by: Date | null;
}

const RECEIPT = "requested_at, session_at, search_at, analytics_at, completed_at, gone_by";
const text = (at: Date | null) => at?.toISOString() ?? null;

function personOf(row: Row): ErasedPerson {
  return {
    hash: row.hash,
    receipt:
      row.erasure_id === null
        ? null
        : {
            id: row.erasure_id,
            requestedAt: (row.requested_at as Date).toISOString(),
            sessionAt: text(row.session_at),
            searchAt: text(row.search_at),
            analyticsAt: text(row.analytics_at),
            completedAt: text(row.completed_at),
            goneBy: text(row.gone_by),
          },
  };
}

/** Erasures that Analytics has not been told of, or not how they ended. */
export async function untoldErasures(db: Database, limit: number): Promise<ErasedPerson[]> {
  const { rows } = await db.run((client) =>
    client.query<Row>(
      `(SELECT encode(person_hash(user_id), 'hex') AS hash, id AS erasure_id, ${RECEIPT} FROM erasures
         WHERE told < CASE WHEN completed_at IS NULL THEN 1 ELSE 2 END ORDER BY user_id LIMIT $1)
       UNION ALL (SELECT encode(user_hash, 'hex'), erasure_id, ${RECEIPT} FROM erased_people WHERE told = 0 ORDER BY user_hash LIMIT $1)
       LIMIT $1`,
      [limit],
    ),
  );
  return rows.map(personOf);
}

/** Notes what of `people` Analytics has been told, and what it said of itself then. */
export function noteTold(db: Database, people: ErasedPerson[], state: RegistryState): Promise<void> {
  const receipts = people.flatMap(({ receipt }) => receipt ?? []);
  return db.transaction(async (tx) => {
    await tx.query(
      `UPDATE erasures SET told = t.told FROM unnest($1::text[], $2::smallint[]) AS t (id, told)
        WHERE erasures.id = t.id AND erasures.told < t.told`,
      [receipts.map(({ id }) => id), receipts.map(({ completedAt }) => (completedAt ? 2 : 1))],
    );
    const told =
      "UPDATE erased_people SET told = 2 WHERE told = 0 AND user_hash IN (SELECT decode(h, 'hex') FROM unnest($1::text[]) h)";
    await tx.query(told, [people.map(({ hash }) => hash)]);
    await tx.query("UPDATE erasure_registry SET latest = greatest(latest, $2) WHERE id = $1", [state.id, state.latest]);
  });
}

/** Whether the registry knows all that this database remembers to have told it; `new`: it was never told anything. */
export async function knowsWhatItWasTold(db: Database, state: RegistryState): Promise<"whole" | "new" | "lost"> {
  const { rows } = await db.run((client) => client.query("SELECT id, latest FROM erasure_registry"));
  if (!rows[0]) return "new";
  return rows[0].id === state.id && rows[0].latest <= state.latest ? "whole" : "lost";
}

/** Everybody is to be told again, to a registry that is new or was restored. Those whom no backup holds any more are not needed there. */
export function tellAgain(db: Database, state: RegistryState): Promise<void> {
  return db.transaction(async (tx) => {
    for (const table of ["erasures", "erased_people"])
      await tx.query(`UPDATE ${table} SET told = 0 WHERE told > 0 AND (gone_by IS NULL OR gone_by > now())`);
    await tx.query(
      `INSERT INTO erasure_registry (id, latest) VALUES ($1, $2)
       ON CONFLICT (one) DO UPDATE SET id = excluded.id, latest = excluded.latest`,
      [state.id, state.latest],
    );
  });
}

/**
 * Writes down who was erased, for `reemitSome` to erase again, but for those whose erasure the database has. What says more than what is known is added to it.
 * Returns how many people are new.
 */
export async function learnErased(db: Database, people: ErasedPerson[]): Promise<number> {
  if (people.length === 0) return 0;
  const of = (field: Exclude<keyof NonNullable<ErasedPerson["receipt"]>, "id">) =>
    people.map(({ receipt }) => receipt?.[field] ?? null);
  const { rows } = await db.run((client) =>
    client.query<{ fresh: boolean }>(
      `INSERT INTO erased_people AS p (user_hash, erasure_id, ${RECEIPT})
       SELECT DISTINCT ON (hash) decode(hash, 'hex'), id, ${RECEIPT}
         FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::timestamptz[])
              AS t (hash, id, ${RECEIPT})
        WHERE NOT EXISTS (SELECT FROM erasures e WHERE person_hash(e.user_id) = decode(t.hash, 'hex') AND (t.id IS NULL OR e.id = t.id))
        ORDER BY hash, completed_at
       ON CONFLICT (user_hash) DO UPDATE SET erasure_id = excluded.erasure_id, requested_at = excluded.requested_at,
         session_at = excluded.session_at, search_at = excluded.search_at, analytics_at = excluded.analytics_at,
         completed_at = excluded.completed_at, gone_by = excluded.gone_by
         WHERE p.erasure_id IS NULL OR p.completed_at IS NULL AND excluded.erasure_id IS NOT NULL
       RETURNING xmax = 0 AS fresh`,
      [
        people.map(({ hash }) => hash),
        people.map(({ receipt }) => receipt?.id ?? null),
        of("requestedAt"),
        of("sessionAt"),
        of("searchAt"),
        of("analyticsAt"),
        of("completedAt"),
        of("goneBy"),
      ],
    ),
  );
  return rows.filter(({ fresh }) => fresh).length;
}

/**
 * Opens the saga of a person who was erased in another life of this database, under the receipt of that time. Every store is asked again: it may have been
 * restored as well. Call it where the person has just been found, once there is a tombstone.
 */
export async function resumeErasure(tx: Queryable, userId: string): Promise<void> {
  await tx.query(
    `INSERT INTO erasures (id, user_id, requested_at, gone_by, next_attempt_at)
     SELECT erasure_id, $1, requested_at, gone_by, now() FROM erased_people
      WHERE user_hash = person_hash($1) AND erasure_id IS NOT NULL ON CONFLICT DO NOTHING`,
    [userId],
  );
}

/**
 * Completes the receipts of people of whom a restored database knows nothing: once the audit has found, after it had learned of them, that Search and Session
 * hold nobody whom it does not know. Analytics acts on the hash by itself.
 */
export async function completeUnknown(db: Database): Promise<void> {
  await db.run((client) =>
    client.query(
      `UPDATE erased_people p SET session_at = coalesce(session_at, now()), search_at = coalesce(search_at, now()),
              analytics_at = coalesce(analytics_at, now()), completed_at = now()
        WHERE completed_at IS NULL AND erasure_id IS NOT NULL
          AND NOT EXISTS (SELECT FROM erasures e WHERE person_hash(e.user_id) = p.user_hash)
          AND NOT EXISTS (SELECT FROM reemissions WHERE phase <> 'done')
          AND (SELECT count(*) FROM audits WHERE drift = 0 AND started_at > p.learned_at) = 2`,
    ),
  );
}
