import type { QueryResult } from "pg";
import { assertPublishable } from "../event.ts";
import type { OutboxEvent } from "../types.ts";

/** A client inside a transaction (`pg.Client`, `pg.PoolClient`, or anything that takes a query config). */
export interface OutboxClient {
  query(config: { name?: string; text: string; values: unknown[] }): Promise<QueryResult>;
}

/** `seq` is handed out in the order of the arrays, so events of one key keep their order. */
const APPEND = `
INSERT INTO outbox (event_id, stream, subject, msg_id, key, headers, payload)
SELECT e.event_id, e.stream, e.subject, e.msg_id, e.key, e.headers, e.payload
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
  WITH ORDINALITY AS e (event_id, stream, subject, msg_id, key, headers, payload, n)
ORDER BY e.n`;

/**
 * Writes events into the outbox as part of the caller's transaction: they are published if and only if it commits. One statement,
 * one round trip, prepared once per connection.
 *
 * The caller must hold the lock of the row that `key` names (an UPDATE or SELECT ... FOR UPDATE before), else two transactions could
 * write the states of one key in one order and commit in the other.
 * @throws InvalidEventError if JetStream would refuse one of them; nothing was written then
 */
export async function appendOutbox(client: OutboxClient, events: OutboxEvent[]): Promise<void> {
  if (events.length === 0) return;
  for (const event of events) assertPublishable(event);
  const column = <T>(read: (event: OutboxEvent) => T): T[] => events.map(read);
  await client.query({
    name: "outbox_append",
    text: APPEND,
    values: [
      column((e) => e.id),
      column((e) => e.stream),
      column((e) => e.subject),
      column((e) => e.msgId ?? null),
      column((e) => e.key),
      column((e) => (e.headers ? JSON.stringify(e.headers) : null)),
      column((e) => e.payload),
    ],
  });
}

const DELETE = "DELETE FROM outbox WHERE key = $1 AND NOT event_id = ANY ($2::text[])";

/**
 * Erases the retained events of a key. Returns how many rows went. Those named in `keep` stay: keep the last one if it says
 * that the key is gone, else a stream that has to be sent again would end with nothing that says so.
 *
 * Rows that are not relayed yet are still relayed: the WAL has them. Erase after the relay has passed them
 * (`status().lagBytes`), or purge the stream once more later.
 */
export async function deleteOutboxRows(
  client: OutboxClient,
  key: string,
  options: { keep?: string[] } = {},
): Promise<number> {
  const result = await client.query({ text: DELETE, values: [key, options.keep ?? []] });
  return result.rowCount ?? 0;
}
