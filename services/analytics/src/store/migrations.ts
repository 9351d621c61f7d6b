import type { ClickHouse } from "./client.ts";

interface Migration {
  version: number;
  name: string;
  statements: string[];
}

/**
 * Every statement can be run again, by any number of replicas at once (ClickHouse has no lock to take): CREATE ... IF NOT EXISTS, ADD COLUMN IF
 * NOT EXISTS, MODIFY SETTING. A new version is appended; an old one is never edited.
 *
 * `facts`: the sorting key follows from the fact's id alone, so a fact that arrives again (in another batch, with another time or body)
 * meets its first row; of equals the highest `ver` stays, which is the message that JetStream accepted first. Not partitioned: by time it
 * would break the insert limits with old histories and part duplicates from each other, by hash it multiplies the parts of an insert.
 * Parts are fsynced, so that what was inserted may be acknowledged; parts that a merge or mutation replaced go after ten seconds, because
 * they hold what an erasure removed.
 */
export const migrations: Migration[] = [
  {
    version: 1,
    name: "facts, erased people, watermarks",
    statements: [
      `CREATE TABLE IF NOT EXISTS facts (
        id UInt128 COMMENT 'first 128 bits of SHA-256 of the fact id',
        kind Enum8('user' = 1, 'session' = 2, 'track' = 3),
        name LowCardinality(String),
        user_id UUID COMMENT 'zero: anonymous, or erased',
        occurred_at DateTime64(3, 'UTC'),
        reason LowCardinality(String) COMMENT 'of session ended',
        duration Float64 COMMENT 'seconds, of session ended',
        properties Map(LowCardinality(String), String) COMMENT 'values are JSON texts',
        ver UInt128 COMMENT 'the earlier accepted, the higher',
        received_at DateTime64(3, 'UTC')
      ) ENGINE = ReplacingMergeTree(ver) ORDER BY id
      SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
        old_parts_lifetime = 10, parts_to_delay_insert = 300`,
      `CREATE TABLE IF NOT EXISTS erased (
        user_hash FixedString(32) COMMENT 'SHA-256 of the user id as text',
        erased_at DateTime64(3, 'UTC') DEFAULT now64(3)
      ) ENGINE = ReplacingMergeTree ORDER BY user_hash
      SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1`,
      `CREATE TABLE IF NOT EXISTS watermarks (
        source LowCardinality(String),
        at SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
      ) ENGINE = AggregatingMergeTree ORDER BY source
      SETTINGS min_rows_to_fsync_after_merge = 1`,
    ],
  },
  {
    version: 2,
    name: "ledger of the facts, findings of the audit",
    statements: [
      `CREATE TABLE IF NOT EXISTS ledger (
        stream String COMMENT 'when the stream was created; empty: rows from before the ledger',
        range UInt64 COMMENT 'number of a range of stream sequences',
        upto UInt64 COMMENT 'sealed up to this sequence',
        h1 Array(UInt64) COMMENT 'hash of each row without what an erasure takes away',
        h2 Array(UInt64) COMMENT 'hash of what it takes away, in the same order',
        n UInt64,
        x1 UInt64 COMMENT 'all of h1, by exclusive or',
        x2 UInt64,
        written UInt64
      ) ENGINE = ReplacingMergeTree(written) ORDER BY (stream, range)
      SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1`,
      `CREATE TABLE IF NOT EXISTS audits (
        store LowCardinality(String),
        compared UInt64,
        drift UInt64,
        mended UInt64,
        started_at DateTime64(3, 'UTC'),
        checked_at DateTime64(3, 'UTC')
      ) ENGINE = ReplacingMergeTree(checked_at) ORDER BY store`,
    ],
  },
  {
    version: 3,
    // A steady trickle of small parts would else rewrite a small table several times a second, each time with its fsyncs.
    name: "merges that wait until they are worth it",
    statements: ["facts", "watermarks"].map(
      (table) => `ALTER TABLE ${table} MODIFY SETTING min_parts_to_merge_at_once = 8`,
    ),
  },
  {
    version: 4,
    name: "receipts of erasures",
    statements: [
      `CREATE TABLE IF NOT EXISTS receipts (
        user_hash FixedString(32) COMMENT 'as in erased',
        id String COMMENT 'of the erasure',
        requested_at DateTime64(3, 'UTC'),
        session_at Nullable(DateTime64(3, 'UTC')),
        search_at Nullable(DateTime64(3, 'UTC')),
        analytics_at Nullable(DateTime64(3, 'UTC')),
        completed_at Nullable(DateTime64(3, 'UTC')),
        gone_by Nullable(DateTime64(3, 'UTC')) COMMENT 'when the last backup that holds the person is deleted',
        kept_until DateTime('UTC'),
        written UInt64
      ) ENGINE = ReplacingMergeTree(written) ORDER BY user_hash TTL kept_until
      SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1`,
    ],
  },
];

/** Brings the tables up to date. Throws StoreUnavailable; run it again until it does not. */
export async function migrate(clickhouse: ClickHouse): Promise<void> {
  await clickhouse.execute(
    `CREATE TABLE IF NOT EXISTS migrations (version UInt32, name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
     ENGINE = ReplacingMergeTree ORDER BY version`,
  );
  const done = new Set(
    (await clickhouse.read<{ version: number }>("SELECT DISTINCT version FROM migrations")).map((row) => row.version),
  );
  for (const { version, name, statements } of migrations) {
    if (done.has(version)) continue;
    for (const statement of statements) await clickhouse.execute(statement);
    await clickhouse.execute("INSERT INTO migrations (version, name) SELECT {version:UInt32}, {name:String}", {
      version,
      name,
    });
  }
}
