import {
  type AuditFindingBody,
  auditBucket,
  BucketDigest,
  profileDigest,
  sessionProfileDigest,
} from "@quartet/contracts";
import type { Database } from "./database.ts";
import { stateOf, USER_COLUMNS, type UserRow, versionOf } from "./rows.ts";

/** The read models that hold every user, and what each of them holds. */
export const AUDITED = {
  search: (row: UserRow) => profileDigest(stateOf(row)),
  session: (row: UserRow) => sessionProfileDigest(stateOf(row)),
} as const;
export type AuditedStore = keyof typeof AUDITED;
export const AUDITED_STORES = Object.keys(AUDITED) as AuditedStore[];

export interface AuditedUser {
  id: string;
  version: number;
  digest: string;
}

/** Digests of all 256 buckets for each read model, by walking the users in pieces; a writer is never blocked. */
export async function digestBuckets(
  db: Database,
  signal?: AbortSignal,
): Promise<Record<AuditedStore, { count: number; digest: string }[]>> {
  const sums = { search: newBuckets(), session: newBuckets() };
  for (let after = "00000000-0000-0000-0000-000000000000"; ; ) {
    signal?.throwIfAborted();
    const rows = await db.run(async (client) => {
      const text = `SELECT ${USER_COLUMNS} FROM users WHERE id > $1 ORDER BY id LIMIT 1000`;
      return (await client.query<UserRow>({ name: "audit-walk", text, values: [after] })).rows;
    });
    for (const row of rows) {
      const bucket = auditBucket(row.id);
      for (const store of AUDITED_STORES) sums[store][bucket]!.add(row.id, AUDITED[store](row), versionOf(row));
    }
    if (rows.length < 1000) break;
    after = rows.at(-1)!.id;
  }
  return { search: sums.search.map((b) => b.value()), session: sums.session.map((b) => b.value()) };
}

const newBuckets = (): BucketDigest[] => Array.from({ length: 256 }, () => new BucketDigest());

/** The users of one bucket as a read model should hold them, read in pieces along the index of the buckets. */
export async function usersOfBucket(db: Database, store: AuditedStore, bucket: number): Promise<AuditedUser[]> {
  const users: AuditedUser[] = [];
  for (let after = "00000000-0000-0000-0000-000000000000"; ; ) {
    const rows = await db.run(async (client) => {
      const text = `SELECT ${USER_COLUMNS} FROM users WHERE get_byte(uuid_send(id), 15) = $1 AND id > $2 ORDER BY id LIMIT 1000`;
      return (await client.query<UserRow>({ name: "audit-bucket", text, values: [bucket, after] })).rows;
    });
    users.push(...rows.map((row) => ({ id: row.id, version: versionOf(row), digest: AUDITED[store](row) })));
    if (rows.length < 1000) return users;
    after = rows.at(-1)!.id;
  }
}

/** The database's clock. */
export function readClock(db: Database): Promise<Date> {
  return db.run(async (client) => (await client.query<{ at: Date }>("SELECT clock_timestamp() AS at")).rows[0]!.at);
}

/** What one audit of a read model found. */
export interface AuditFinding {
  compared: number;
  drift: number;
  mended: number;
  users: { id: string; kind: string }[];
  startedAt: Date;
}

/** Writes down what the audit of a read model found, for every replica to show. The next one overwrites it: no id outlives an erasure for long. */
export async function saveAudit(db: Database, store: AuditedStore, found: AuditFinding): Promise<void> {
  const { compared, drift, mended, users, startedAt } = found;
  await db.run((client) =>
    client.query(
      `INSERT INTO audits (store, compared, drift, mended, users, started_at, checked_at)
       VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
       ON CONFLICT (store) DO UPDATE SET compared = excluded.compared, drift = excluded.drift, mended = excluded.mended,
         users = excluded.users, started_at = excluded.started_at, checked_at = excluded.checked_at`,
      [store, compared, drift, mended, JSON.stringify(users.slice(0, 1000)), startedAt],
    ),
  );
}

/** The last finding for each read model. */
export async function listAudits(db: Database): Promise<AuditFindingBody[]> {
  const { rows } = await db.run((client) =>
    client.query<{
      store: AuditedStore;
      compared: number;
      drift: number;
      mended: number;
      users: AuditFinding["users"];
      started_at: Date;
      checked_at: Date;
    }>("SELECT * FROM audits"),
  );
  return rows.map(({ started_at, checked_at, ...row }) => ({
    store: row.store,
    compared: Number(row.compared),
    drift: Number(row.drift),
    mended: Number(row.mended),
    users: row.users,
    startedAt: started_at.toISOString(),
    checkedAt: checked_at.toISOString(),
  }));
}

/** Asks whichever replica audits to do so now. Returns the moment from which on a finding is an answer. */
export async function requestAudit(db: Database): Promise<Date> {
  const { rows } = await db.run((client) =>
    client.query<{ requested_at: Date }>(
      `INSERT INTO audit_requests (requested_at) VALUES (clock_timestamp())
       ON CONFLICT (one) DO UPDATE SET requested_at = excluded.requested_at RETURNING requested_at`,
    ),
  );
  return rows[0]!.requested_at;
}

/** When an audit was last asked for, if not every read model has been compared since. */
export async function openAuditRequest(db: Database): Promise<Date | undefined> {
  const { rows } = await db.run((client) =>
    client.query<{ requested_at: Date }>(
      `SELECT requested_at FROM audit_requests
       WHERE (SELECT count(*) FROM audits WHERE started_at >= requested_at) < $1`,
      [AUDITED_STORES.length],
    ),
  );
  return rows[0]?.requested_at;
}

/** Whether everybody is being emitted again: until that is done the versions differ, and nothing is wrong. */
export async function isReemitting(db: Database): Promise<boolean> {
  const { rows } = await db.run((client) => client.query("SELECT FROM reemissions WHERE phase <> 'done'"));
  return rows.length > 0;
}

/** The sum of the drift over the read models, and the oldest of their last checks; nulls before the first one. */
export async function loadAudit(db: Database): Promise<{ drift: number | null; checkedAt: string | null }> {
  const { rows } = await db.run((client) =>
    client.query<{ drift: number; checked_at: Date }>("SELECT drift, checked_at FROM audits"),
  );
  if (rows.length < AUDITED_STORES.length) return { drift: null, checkedAt: null };
  return {
    drift: rows.reduce((sum, row) => sum + row.drift, 0),
    checkedAt: rows.map((row) => row.checked_at.toISOString()).sort()[0]!,
  };
}
