export * from "./errors.ts";
export { assertPublishable, MAX_PAYLOAD_BYTES, TTL_HEADER } from "./event.ts";
export { appendOutbox, deleteOutboxRows, type OutboxClient } from "./postgres/append.ts";
export {
  CREATE_OUTBOX,
  CREATE_OUTBOX_CHECKPOINT,
  CREATE_OUTBOX_DEFAULT_PARTITION,
  CREATE_OUTBOX_KEY_INDEX,
  CREATE_OUTBOX_OWED,
  CREATE_OUTBOX_RELAY,
  CREATE_OUTBOX_TXID_INDEX,
  createOutboxPublication,
  outboxMigration,
} from "./postgres/migrations.ts";
export type { PostgresRelayOptions } from "./postgres/options.ts";
export { dropOldPartitions, ensurePartitions, partitionName } from "./postgres/partitions.ts";
export { createPostgresRelay, type PostgresRelayStatus } from "./postgres/relay.ts";
export {
  appendRedisOutbox,
  countRedisOutboxEntries,
  deleteRedisOutboxEntries,
  OUTBOX_LUA,
  outboxArguments,
  type RedisCommands,
} from "./redis/append.ts";
export { outboxKeys } from "./redis/keys.ts";
export type { RedisRelayOptions } from "./redis/options.ts";
export { createRedisRelay, type RedisRelayStatus } from "./redis/relay.ts";
export type * from "./types.ts";
