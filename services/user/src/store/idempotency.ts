import { type Database, type Queryable, Refusal } from "./database.ts";

/** How long an answer is remembered. */
const ANSWER_HOURS = 24;

/** A key that a caller chose for a request, and the request's HMACs to recognise it by: the first is written down, each is known again. */
export interface IdempotencyClaim {
  scope: string;
  key: string;
  requestHmacs: Buffer[];
}

/** An answer to be given again, word for word. */
export interface StoredAnswer {
  status: number;
  headers: Record<string, string>;
  body: unknown;
}

/** Thrown when a key comes back with another request. */
export class KeyReusedError extends Refusal {
  override name = "KeyReusedError";
}

interface KeyRow {
  request_hmac: Buffer;
  answer: StoredAnswer | null;
}

/** The answer that was given to this key, or undefined. Throws KeyReusedError. */
export function findAnswer(db: Database, claim: IdempotencyClaim): Promise<StoredAnswer | undefined> {
  return db.run((client) => earlierAnswer(client, claim));
}

/**
 * Takes the key within the transaction of the change. A concurrent request with the same key waits here until this one commits or aborts.
 * Returns the answer of an earlier request, or undefined: the key is ours. Throws KeyReusedError.
 */
export async function claimKey(
  tx: Queryable,
  claim: IdempotencyClaim,
  userId: string,
): Promise<StoredAnswer | undefined> {
  const text = `INSERT INTO idempotency_keys (scope, key, request_hmac, user_id) VALUES ($1, $2, $3, $4)
    ON CONFLICT (scope, key) DO UPDATE SET request_hmac = excluded.request_hmac, user_id = excluded.user_id, answer = NULL, created_at = now()
      WHERE idempotency_keys.created_at < now() - make_interval(hours => ${ANSWER_HOURS})`;
  const taken = await tx.query(text, [claim.scope, claim.key, claim.requestHmacs[0], userId]);
  if (taken.rowCount === 1) return undefined;
  const answer = await earlierAnswer(tx, claim);
  // The row went between the two statements (an erasure): as if the key had never been used, but for this request too late.
  if (!answer) throw Object.assign(new Error("the idempotency key was just released"), { code: "40001" });
  return answer;
}

/** Remembers the answer, within the same transaction. */
export async function storeAnswer(tx: Queryable, claim: IdempotencyClaim, answer: StoredAnswer): Promise<void> {
  const text = "UPDATE idempotency_keys SET answer = $3 WHERE scope = $1 AND key = $2";
  await tx.query(text, [claim.scope, claim.key, JSON.stringify(answer)]);
}

/** Answers hold personal data and go with the person. */
export async function forgetAnswersOf(tx: Queryable, userId: string): Promise<void> {
  await tx.query("DELETE FROM idempotency_keys WHERE user_id = $1", [userId]);
}

/** Removes what is older than a day. */
export function forgetOldAnswers(db: Database): Promise<number> {
  return db.run(async (client) => {
    const text = `DELETE FROM idempotency_keys WHERE ctid IN (SELECT ctid FROM idempotency_keys
      WHERE created_at < now() - make_interval(hours => ${ANSWER_HOURS}) LIMIT 1000)`;
    return (await client.query(text)).rowCount ?? 0;
  });
}

async function earlierAnswer(client: Queryable, claim: IdempotencyClaim): Promise<StoredAnswer | undefined> {
  const text = `SELECT request_hmac, answer FROM idempotency_keys
    WHERE scope = $1 AND key = $2 AND created_at >= now() - make_interval(hours => ${ANSWER_HOURS})`;
  const row = (await client.query<KeyRow>(text, [claim.scope, claim.key])).rows[0];
  if (!row) return undefined;
  if (!claim.requestHmacs.some((hmac) => row.request_hmac.equals(hmac)))
    throw new KeyReusedError("the key was used for another request");
  return row.answer ?? undefined;
}
