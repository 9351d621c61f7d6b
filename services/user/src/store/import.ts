import { email as emailField, type ImportedUser, uuidv7 } from "@quartet/contracts";
import { unavailable } from "@quartet/service";
import { type Database, type Queryable, Refusal, violatedConstraint } from "./database.ts";
import { handleCandidates, importKeyHash } from "./handles.ts";
import { type AppendEvents, changeEvents, USER_COLUMNS, type UserRow } from "./rows.ts";

export interface ImportResult {
  /** One for each person given, in the given order. */
  users: { key: string; id: string; revision: number; outcome: "created" | "updated" | "unchanged" }[];
  /** Everything of this import was committed before this moment of the database's clock. */
  committedBefore: Date;
}

/** One person of the batch, whatever number of times it was named. */
interface Person {
  keyHash: Buffer;
  hex: string;
  given: ImportedUser;
  email: string | null;
  candidates: string[];
}

/** What a person gets on the way into the database. */
interface Draft {
  id: string;
  email: string | null;
  handle: string;
  display_name: string;
  bio: string;
  country: string | null;
  tags: string[];
}

/** Imports take turns, in one process and across replicas: handles and emails are handed out by looking, and two who look at once would collide. */
const IMPORT_LOCK = 7_214_010;
const TIMEOUT_MS = 8_000;

/**
 * Adds or updates people by key, in one transaction with statements over all rows: the second import of the same people changes nothing and emits
 * nothing. A fresh row that met a concurrent sign-up, and a person erased meanwhile, are looked at again.
 */
export async function importUsers(
  db: Database,
  append: AppendEvents,
  given: ImportedUser[],
  traceparent?: string,
): Promise<ImportResult> {
  const people = fold(given);
  // A dead server is told within the usual second, not within the long one that a large import may need.
  await db.run((client) => client.query("SELECT 1"));
  const results = new Map<string, ImportResult["users"][number]>();
  for (let attempt = 1; people.length > 0; attempt++) {
    results.clear();
    try {
      const rows = await db.transaction((tx) => importOnce(tx, append, people, traceparent), { timeoutMs: TIMEOUT_MS });
      for (const [hex, found] of rows) results.set(hex, found);
      break;
    } catch (error) {
      const met = violatedConstraint(error) !== undefined || error instanceof MovedError;
      if (!met) throw error;
      if (attempt >= 8) throw unavailable("postgres", 1, error);
    }
  }
  const users = given.map((user) => ({ ...results.get(importKeyHash(user.key).toString("hex"))!, key: user.key }));
  return { users, committedBefore: await clockAfter(db) };
}

/** Thrown when somebody else changed what this import had looked up: it is done again. */
class MovedError extends Refusal {
  override name = "MovedError";
}

/** The database's clock, rounded up to the millisecond: no earlier reading of it can round to this. */
async function clockAfter(db: Database): Promise<Date> {
  const text = "SELECT ceil(extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms";
  const ms = await db.run(async (client) => (await client.query<{ ms: number }>(text)).rows[0]!.ms);
  return new Date(ms);
}

/** One entry a key, sorted by its hash; of several with one key the last wins, field by field. */
function fold(given: ImportedUser[]): Person[] {
  const byKey = new Map<string, { keyHash: Buffer; given: ImportedUser }>();
  for (const user of given) {
    const keyHash = importKeyHash(user.key);
    const earlier = byKey.get(keyHash.toString("hex"))?.given;
    const stated = Object.fromEntries(Object.entries(user).filter(([, value]) => value !== undefined));
    byKey.set(keyHash.toString("hex"), { keyHash, given: { ...earlier, ...stated } as ImportedUser });
  }
  return [...byKey].map(([hex, { keyHash, given: user }]) => {
    const parsed = emailField.safeParse(user.email);
    return {
      keyHash,
      hex,
      given: user,
      email: parsed.success ? parsed.data : null,
      candidates: handleCandidates(keyHash, user.displayName, user.handle),
    };
  });
}

async function importOnce(
  tx: Queryable,
  append: AppendEvents,
  people: Person[],
  traceparent: string | undefined,
): Promise<Map<string, ImportResult["users"][number]>> {
  await tx.query("SET LOCAL lock_timeout = '5s'");
  await tx.query("SELECT pg_advisory_xact_lock($1)", [IMPORT_LOCK]);
  const known = await lockKnown(tx, people);
  const wanted = people.filter(
    (p) => known.get(p.hex)?.email !== p.email || !p.candidates.includes(known.get(p.hex)?.handle ?? ""),
  );
  const taken = await lookUpTaken(tx, wanted);

  const fresh: { person: Person; draft: Draft }[] = [];
  const changed: { person: Person; draft: Draft; fields: string[] }[] = [];
  const results = new Map<string, ImportResult["users"][number]>();
  for (const person of people) {
    const row = known.get(person.hex);
    if (!row) {
      fresh.push({ person, draft: draftOf(person, taken) });
      continue;
    }
    const { draft, fields } = merge(row, person, taken);
    if (fields.length > 0) changed.push({ person, draft, fields });
    else results.set(person.hex, { key: "", id: row.id, revision: row.revision, outcome: "unchanged" });
  }

  const created = await insertAll(tx, fresh);
  const updated = await updateAll(tx, changed);
  await append(tx, [
    ...fresh.flatMap(({ draft }) => changeEvents(created.get(draft.id)!, "created", [], traceparent)),
    ...changed.flatMap(({ draft, fields }) => changeEvents(updated.get(draft.id)!, "updated", fields, traceparent)),
  ]);
  for (const { person, draft } of fresh) {
    results.set(person.hex, { key: "", id: draft.id, revision: created.get(draft.id)!.revision, outcome: "created" });
  }
  for (const { person, draft } of changed) {
    results.set(person.hex, { key: "", id: draft.id, revision: updated.get(draft.id)!.revision, outcome: "updated" });
  }
  return results;
}

/** The people who are there already, by key hash, locked in the order of their ids. */
async function lockKnown(tx: Queryable, people: Person[]): Promise<Map<string, UserRow>> {
  const hashes = people.map((p) => p.keyHash);
  const locked = await tx.query<UserRow & { key_hash: Buffer }>(
    `SELECT k.key_hash, ${USER_COLUMNS} FROM import_keys k JOIN users u ON u.id = k.user_id
      WHERE k.key_hash = ANY ($1::bytea[]) ORDER BY u.id FOR UPDATE OF u`,
    [hashes],
  );
  const known = new Map(locked.rows.map((row) => [row.key_hash.toString("hex"), row as UserRow]));
  if (known.size < people.length) {
    // A key without its user, seen after the locks were taken, is of somebody who was erased while we waited: a new snapshot shows it gone.
    const keys = await tx.query<{ n: number }>(
      "SELECT count(*) AS n FROM import_keys WHERE key_hash = ANY ($1::bytea[])",
      [hashes],
    );
    if (keys.rows[0]!.n !== known.size) throw new MovedError("a person was erased during the import");
  }
  return known;
}

/** What of the wanted emails and handles belongs to somebody. Grows with what this import hands out. */
async function lookUpTaken(
  tx: Queryable,
  people: Person[],
): Promise<{ emails: Map<string, string>; handles: Map<string, string> }> {
  const taken = { emails: new Map<string, string>(), handles: new Map<string, string>() };
  if (people.length === 0) return taken;
  const emails = people.flatMap((p) => p.email ?? []);
  const handles = people.flatMap((p) => p.candidates);
  const byEmail = await tx.query<{ email: string; id: string }>(
    "SELECT email, id FROM users WHERE email = ANY ($1::text[])",
    [emails],
  );
  const byHandle = await tx.query<{ handle: string; id: string }>(
    "SELECT handle, id FROM users WHERE handle = ANY ($1::text[])",
    [handles],
  );
  for (const row of byEmail.rows) taken.emails.set(row.email, row.id);
  for (const row of byHandle.rows) taken.handles.set(row.handle, row.id);
  return taken;
}

type Taken = Awaited<ReturnType<typeof lookUpTaken>>;

function takeHandle(person: Person, id: string, taken: Taken): string {
  const free = person.candidates.find((handle) => !taken.handles.has(handle));
  if (!free) throw new MovedError("no handle is free");
  taken.handles.set(free, id);
  return free;
}

function takeEmail(person: Person, id: string, taken: Taken): string | null {
  if (person.email === null || taken.emails.has(person.email)) return null;
  taken.emails.set(person.email, id);
  return person.email;
}

function draftOf(person: Person, taken: Taken): Draft {
  const id = uuidv7();
  const { displayName, bio, country, tags } = person.given;
  return {
    id,
    email: takeEmail(person, id, taken),
    handle: takeHandle(person, id, taken),
    display_name: displayName,
    bio: bio ?? "",
    country: country ?? null,
    tags: tags ?? [],
  };
}

/** The row with what the import says otherwise. What it does not say stays; a handle that was derived once stays too. */
function merge(row: UserRow, person: Person, taken: Taken): { draft: Draft; fields: string[] } {
  const { id, email, handle, display_name, bio, country, tags } = row;
  const draft: Draft = { id, email, handle, display_name, bio, country, tags };
  const fields: string[] = [];
  if (person.given.displayName !== display_name) {
    draft.display_name = person.given.displayName;
    fields.push("displayName");
  }
  if (person.given.bio !== undefined && person.given.bio !== bio) {
    draft.bio = person.given.bio;
    fields.push("bio");
  }
  if (person.given.country !== undefined && person.given.country !== country) {
    draft.country = person.given.country;
    fields.push("country");
  }
  if (person.given.tags !== undefined && JSON.stringify(person.given.tags) !== JSON.stringify(tags)) {
    draft.tags = person.given.tags;
    fields.push("tags");
  }
  if (person.given.handle !== undefined && !person.candidates.includes(handle)) {
    draft.handle = takeHandle(person, id, taken);
    fields.push("handle");
  }
  if (person.email !== null && person.email !== email) {
    const free = takeEmail(person, id, taken);
    if (free !== null) {
      draft.email = free;
      fields.push("email");
    }
  }
  return { draft, fields };
}

const DRAFTS = `json_to_recordset($1::json) AS d (id uuid, email text, handle text, display_name text, bio text, country text, tags text[])`;

async function insertAll(tx: Queryable, fresh: { person: Person; draft: Draft }[]): Promise<Map<string, UserRow>> {
  if (fresh.length === 0) return new Map();
  const text = `INSERT INTO users (id, email, handle, display_name, bio, country, tags, created_at, updated_at)
    SELECT d.id, d.email, d.handle, d.display_name, d.bio, d.country, d.tags, now(), now() FROM ${DRAFTS} RETURNING ${USER_COLUMNS}`;
  const { rows } = await tx.query<UserRow>(text, [JSON.stringify(fresh.map((f) => f.draft))]);
  await tx.query("INSERT INTO import_keys (key_hash, user_id) SELECT * FROM unnest($1::bytea[], $2::uuid[])", [
    fresh.map((f) => f.person.keyHash),
    fresh.map((f) => f.draft.id),
  ]);
  return new Map(rows.map((row) => [row.id, row]));
}

async function updateAll(tx: Queryable, changed: { draft: Draft }[]): Promise<Map<string, UserRow>> {
  if (changed.length === 0) return new Map();
  const text = `UPDATE users SET email = d.email, handle = d.handle, display_name = d.display_name, bio = d.bio, country = d.country, tags = d.tags,
      revision = revision + 1, counter = counter + 1, updated_at = now()
    FROM ${DRAFTS} WHERE users.id = d.id RETURNING ${USER_COLUMNS.replace(/\b(id|email|handle|display_name|bio|country|tags)\b/g, "users.$1")}`;
  const { rows } = await tx.query<UserRow>(text, [JSON.stringify(changed.map((c) => c.draft))]);
  return new Map(rows.map((row) => [row.id, row]));
}

/** The users that earlier imports made, by key; unknown keys are left out. */
export function findImported(db: Database, keys: string[]): Promise<[key: string, id: string][]> {
  const byHash = new Map(keys.map((key) => [importKeyHash(key).toString("hex"), key]));
  return db.run(async (client) => {
    const text = "SELECT encode(key_hash, 'hex') AS hash, user_id FROM import_keys WHERE key_hash = ANY ($1::bytea[])";
    const values = [[...byHash.keys()].map((hex) => Buffer.from(hex, "hex"))];
    const { rows } = await client.query<{ hash: string; user_id: string }>(text, values);
    return rows.map((row) => [byHash.get(row.hash) as string, row.user_id]);
  });
}
