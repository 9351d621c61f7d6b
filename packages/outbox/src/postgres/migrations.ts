/**
 * The tables of the outbox. Every constant is one idempotent statement; run them in this order, in one transaction, under the
 * lock of your own migrations, as the role that owns the schema. They go into the first schema of the `search_path`.
 */

/**
 * Append-only but for erasure. No primary key: nothing ever looks a row up by one, and every index costs the writers. What identifies
 * a row that is deleted is all of it (`REPLICA IDENTITY FULL`, see `ensurePartitions`), should somebody else publish every table.
 * `txid` orders rows against a snapshot (what was finished when a checkpoint was taken), `seq` orders the rows of one key.
 */
export const CREATE_OUTBOX = `
CREATE TABLE IF NOT EXISTS outbox (
  seq        bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
  day        date        NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date,
  txid       xid8        NOT NULL DEFAULT pg_current_xact_id(),
  event_id   text        NOT NULL,
  stream     text        NOT NULL,
  subject    text        NOT NULL,
  msg_id     text,
  key        text        NOT NULL,
  headers    text,
  payload    text        NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (day)`;

/**
 * For the relay, where it reads from the table, and for the retention, which asks for the newest transaction of a day. `ONLY`: an outbox that
 * has rows already gets the index by and by (`ensurePartitions`), because building it would hold its writers up.
 */
export const CREATE_OUTBOX_TXID_INDEX = indexOnce("outbox_txid", "ON ONLY outbox (txid)");

/** For erasure. Partitions inherit it. */
export const CREATE_OUTBOX_KEY_INDEX = indexOnce("outbox_key", "ON outbox (key)");

/** A write never fails for want of a partition: what has none goes here, and is relayed all the same. */
export const CREATE_OUTBOX_DEFAULT_PARTITION = "CREATE TABLE IF NOT EXISTS outbox_default PARTITION OF outbox DEFAULT";

/**
 * How far each stream was known to be, see `src/verify.ts`. Never published. `refuted`: the stream turned out not to hold it.
 * `horizon`: every outbox row of an older transaction was acknowledged at or below `sequence`.
 */
export const CREATE_OUTBOX_CHECKPOINT = `
CREATE TABLE IF NOT EXISTS outbox_checkpoint (
  slot        text        NOT NULL,
  stream      text        NOT NULL,
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  system_id   text        NOT NULL,
  incarnation text        NOT NULL,
  sequence    bigint      NOT NULL,
  event_id    text,
  digest      text,
  horizon     xid8        NOT NULL,
  lsn         pg_lsn      NOT NULL,
  refuted     boolean     NOT NULL DEFAULT false,
  PRIMARY KEY (slot, stream, at)
)`;

/** Streams that lack rows which the slot has passed, see `owed.ts`. */
export const CREATE_OUTBOX_OWED = `
CREATE TABLE IF NOT EXISTS outbox_owed (
  slot   text        NOT NULL,
  stream text        NOT NULL,
  since  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (slot, stream)
)`;

/** One row per slot. `resend_from`: written by earlier releases in place of `outbox_owed`, for every stream at once. */
export const CREATE_OUTBOX_RELAY = `
CREATE TABLE IF NOT EXISTS outbox_relay (
  slot          text PRIMARY KEY,
  resend_from   xid8,
  dropped_until xid8
)`;

/**
 * `CREATE INDEX IF NOT EXISTS` takes the lock that holds every writer up before it looks whether there is anything to do, and keeps it to the end of the
 * migration: each start of a process would be felt by those who write.
 */
function indexOnce(name: string, on: string): string {
  return `DO $index$ BEGIN IF to_regclass('${name}') IS NULL THEN CREATE INDEX ${name} ${on}; END IF; END $index$`;
}

/**
 * Inserts only (the deletes of an erasure and of the retention are nobody's business), under the name of the parent table, and
 * without the columns that the relay does not need. Dollar-quoted because CREATE PUBLICATION has no IF NOT EXISTS.
 */
export function createOutboxPublication(publication: string): string {
  const name = `"${publication.replaceAll('"', '""')}"`;
  const literal = `'${publication.replaceAll("'", "''")}'`;
  return `
DO $publication$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = ${literal}) THEN
    CREATE PUBLICATION ${name} FOR TABLE outbox (event_id, stream, subject, msg_id, key, headers, payload)
      WITH (publish = 'insert', publish_via_partition_root = true);
  END IF;
END $publication$`;
}

/** All statements, in order. `publication` is the name that `createPostgresRelay` gets. */
export function outboxMigration(publication: string): string[] {
  return [
    CREATE_OUTBOX,
    CREATE_OUTBOX_KEY_INDEX,
    CREATE_OUTBOX_TXID_INDEX,
    CREATE_OUTBOX_DEFAULT_PARTITION,
    CREATE_OUTBOX_CHECKPOINT,
    CREATE_OUTBOX_RELAY,
    CREATE_OUTBOX_OWED,
    createOutboxPublication(publication),
  ];
}
