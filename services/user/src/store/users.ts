import { randomBytes } from "node:crypto";
import { emit, makeVersion, type PatchUserBody, uuidv7 } from "@quartet/contracts";
import { type Database, type Queryable, Refusal, violatedConstraint } from "./database.ts";
import { claimKey, forgetAnswersOf, type IdempotencyClaim, type StoredAnswer, storeAnswer } from "./idempotency.ts";
import { type AppendEvents, changeEvents, USER_COLUMNS, type UserRow } from "./rows.ts";

/** Thrown when an email or a handle belongs to somebody else; names every one that does. */
export class TakenError extends Refusal {
  override name = "TakenError";
  readonly fields: ("email" | "handle")[];
  constructor(fields: ("email" | "handle")[]) {
    super(`taken: ${fields.join(", ")}`);
    this.fields = fields;
  }
}

export interface NewUser {
  email: string;
  handle: string;
  displayName: string;
  bio: string;
  country: string | null;
  tags: string[];
  passwordHash: string;
}

/** The fields of a change; `passwordHash` stands for `password`, and who may make it was seen to before. */
export type UserChange = Omit<PatchUserBody, "password" | "currentPassword"> & { passwordHash?: string };

export type Created = { kind: "created"; row: UserRow } | { kind: "repeated"; answer: StoredAnswer };
export type Patched =
  | { kind: "patched"; row: UserRow }
  | { kind: "missing" }
  | { kind: "outdated" }
  | { kind: "stale"; revision: number };
export type Erased = { kind: "erased"; erasureId: string; version: number } | { kind: "missing" };

export interface EarlierErasure {
  id: string;
  requestedAt: Date;
  goneBy: Date | null;
}

/** What a login needs to know of a user. */
export interface CredentialRow extends UserRow {
  password_hash: string | null;
}

/** The users of this service. Every change and its events commit in one transaction, under the lock of the user's row. */
export class Users {
  readonly #db: Database;
  readonly #append: AppendEvents;

  constructor(db: Database, append: AppendEvents) {
    this.#db = db;
    this.#append = append;
  }

  /** The row as committed, or undefined. */
  find(id: string): Promise<UserRow | undefined> {
    return this.#db.run(async (client) => {
      const text = `SELECT ${USER_COLUMNS} FROM users WHERE id = $1`;
      return (await client.query<UserRow>({ name: "user-by-id", text, values: [id] })).rows[0];
    });
  }

  /** The row with what its password is checked against. */
  findCredentials(id: string): Promise<CredentialRow | undefined> {
    return this.#db.run(async (client) => {
      const text = `SELECT ${USER_COLUMNS}, password_hash FROM users WHERE id = $1`;
      return (await client.query<CredentialRow>({ name: "credentials-by-id", text, values: [id] })).rows[0];
    });
  }

  /** By email if it has an @, else by handle, case-folded. */
  findForLogin(login: string): Promise<CredentialRow | undefined> {
    const folded = login.toLowerCase();
    // Neither can hold these, and PostgreSQL would refuse them as text.
    const wanted = folded.includes("\0") || !folded.isWellFormed() ? "" : folded;
    const column = wanted.includes("@") ? "email" : "handle";
    return this.#db.run(async (client) => {
      const text = `SELECT ${USER_COLUMNS}, password_hash FROM users WHERE ${column} = $1`;
      return (await client.query<CredentialRow>({ name: `user-by-${column}`, text, values: [wanted] })).rows[0];
    });
  }

  /** Adds a user, and `answer(row)` under the idempotency key if there is one. Throws TakenError. */
  async create(
    user: NewUser,
    options: {
      traceparent?: string | undefined;
      claim?: IdempotencyClaim | undefined;
      answer: (row: UserRow) => StoredAnswer;
    },
  ): Promise<Created> {
    const insert = `INSERT INTO users (id, email, handle, display_name, bio, country, tags, password_hash, created_at, updated_at)
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now(), now()) RETURNING ${USER_COLUMNS}`;
    const { email, handle, displayName, bio, country, tags, passwordHash } = user;
    try {
      return await this.#db.transaction(async (tx): Promise<Created> => {
        const id = uuidv7();
        if (options.claim) {
          const earlier = await claimKey(tx, options.claim, id);
          if (earlier) return { kind: "repeated", answer: earlier };
        }
        const values = [id, email, handle, displayName, bio, country, tags, passwordHash];
        const row = (await tx.query<UserRow>({ name: "user-insert", text: insert, values })).rows[0]!;
        await this.#append(tx, changeEvents(row, "created", [], options.traceparent));
        if (options.claim) await storeAnswer(tx, options.claim, options.answer(row));
        return { kind: "created", row };
      });
    } catch (error) {
      throw await this.#named(error, { email, handle });
    }
  }

  /**
   * Changes a user. `accepts` decides by the current revision whether the change still applies (If-Match), `credentialEpoch` is the
   * one of the password that was checked for it: another one now is `outdated`. A changed password ends all sessions but `keptSessionId`.
   * Throws TakenError.
   */
  async patch(
    id: string,
    change: UserChange,
    options: {
      accepts: (revision: number) => boolean;
      credentialEpoch?: number | undefined;
      keptSessionId: string | null;
      traceparent?: string | undefined;
    },
  ): Promise<Patched> {
    const assignments: string[] = [];
    const values: unknown[] = [id];
    const set = (column: string, value: unknown): void => {
      if (value !== undefined) assignments.push(`${column} = $${values.push(value)}`);
    };
    set("email", change.email);
    set("handle", change.handle);
    set("display_name", change.displayName);
    set("bio", change.bio);
    set("country", change.country);
    set("tags", change.tags);
    if (change.passwordHash !== undefined) {
      set("password_hash", change.passwordHash);
      set("kept_session_id", options.keptSessionId);
      assignments.push("credential_epoch = credential_epoch + 1");
    }
    const { passwordHash, ...plain } = change;
    const fields = Object.entries(plain).flatMap(([name, value]) => (value === undefined ? [] : [name]));
    if (passwordHash !== undefined) fields.push("password");
    const update = `UPDATE users SET ${[...assignments, "revision = revision + 1", "counter = counter + 1", "updated_at = now()"].join(", ")}
      WHERE id = $1 RETURNING ${USER_COLUMNS}`;
    try {
      return await this.#db.transaction(async (tx): Promise<Patched> => {
        const text = "SELECT revision, credential_epoch FROM users WHERE id = $1 FOR UPDATE";
        const locked = (
          await tx.query<Pick<UserRow, "revision" | "credential_epoch">>({ name: "user-lock", text, values: [id] })
        ).rows[0];
        if (!locked) return { kind: "missing" };
        if (!options.accepts(locked.revision)) return { kind: "stale", revision: locked.revision };
        if ((options.credentialEpoch ?? locked.credential_epoch) !== locked.credential_epoch)
          return { kind: "outdated" };
        const row = (await tx.query<UserRow>(update, values)).rows[0]!;
        await this.#append(tx, changeEvents(row, "updated", fields, options.traceparent));
        return { kind: "patched", row };
      });
    } catch (error) {
      throw await this.#named(error, { email: change.email, handle: change.handle }, id);
    }
  }

  /**
   * Removes a user at once and opens the erasure of everything that is elsewhere. Asked again, it names the same erasure: the first answer may have
   * been lost.
   */
  erase(id: string, traceparent?: string): Promise<Erased> {
    return this.#db.transaction((tx) => eraseIn(tx, this.#append, id, { traceparent }));
  }

  /** A unique violation names one constraint; the caller wants to know of both. Anything else passes. */
  async #named(
    error: unknown,
    wanted: { email?: string | undefined; handle?: string | undefined },
    self?: string,
  ): Promise<unknown> {
    const constraint = violatedConstraint(error);
    if (constraint !== "users_email_key" && constraint !== "users_handle_key") return error;
    const found = await this.#db.run(async (client) => {
      const text = `SELECT EXISTS (SELECT FROM users WHERE email = $1 AND id IS DISTINCT FROM $3) AS email,
                           EXISTS (SELECT FROM users WHERE handle = $2 AND id IS DISTINCT FROM $3) AS handle`;
      const values = [wanted.email ?? null, wanted.handle ?? null, self ?? null];
      return (await client.query<{ email: boolean; handle: boolean }>(text, values)).rows[0]!;
    });
    const fields = (["email", "handle"] as const).filter((f) => found[f] || constraint === `users_${f}_key`);
    return new TakenError(fields);
  }
}

/**
 * Removes a user within the caller's transaction; see `Users.erase`.
 * @param earlier the receipt of an erasure that this database has forgotten: it goes on under its id
 */
export async function eraseIn(
  tx: Queryable,
  append: AppendEvents,
  id: string,
  { traceparent, earlier }: { traceparent?: string | undefined; earlier?: EarlierErasure | undefined } = {},
): Promise<Erased> {
  const removed = await tx.query<{ counter: number; epoch: number; at: Date }>(
    `DELETE FROM users WHERE id = $1
     RETURNING counter, (SELECT epoch FROM restore_epoch) AS epoch, now()::timestamptz(3) AS at`,
    [id],
  );
  const gone = removed.rows[0];
  if (!gone) return earlierErasure(tx, id);
  const erasureId = earlier?.id ?? randomBytes(32).toString("base64url");
  const version = makeVersion(gone.epoch, gone.counter + 1);
  await tx.query("INSERT INTO tombstones (user_id, counter, at) VALUES ($1, $2, $3)", [id, gone.counter + 1, gone.at]);
  await tx.query(
    "INSERT INTO erasures (id, user_id, requested_at, gone_by, next_attempt_at) VALUES ($1, $2, $3, $4, now() + interval '50 ms')",
    [erasureId, id, earlier?.requestedAt ?? gone.at, earlier?.goneBy ?? null],
  );
  await tx.query("DELETE FROM import_keys WHERE user_id = $1", [id]);
  await forgetAnswersOf(tx, id);
  await append(tx, [
    emit.userTombstone(id, version, { time: gone.at, traceparent }),
    emit.userFact("erased", id, version, { time: gone.at, traceparent }),
  ]);
  return { kind: "erased", erasureId, version };
}

async function earlierErasure(tx: Queryable, userId: string): Promise<Erased> {
  const found = await tx.query<{ id: string; counter: number; epoch: number }>(
    `SELECT e.id, t.counter, (SELECT epoch FROM restore_epoch) AS epoch
       FROM erasures e JOIN tombstones t USING (user_id) WHERE e.user_id = $1`,
    [userId],
  );
  const row = found.rows[0];
  if (!row) return { kind: "missing" };
  return { kind: "erased", erasureId: row.id, version: makeVersion(row.epoch, row.counter) };
}
