import type { ConnectionOptions } from "nats";
import type pg from "pg";
import type { RelayState } from "../loop.ts";
import type { LossDuty } from "../loss.ts";
import type { CommonRelayOptions } from "../types.ts";

export interface PostgresRelayOptions extends CommonRelayOptions {
  /** A role with REPLICATION and the rights of the owner of the outbox tables. */
  connectionString: string;
  /** Name of the replication slot: the lock between the replicas and their common cursor. Made when missing. `[a-z0-9_]+` */
  slot: string;
  /** As given to `outboxMigration`. */
  publication: string;
  nats: ConnectionOptions;
  /** Whole UTC days of published events that stay republishable. Default 3. */
  retentionDays?: number;
  /** How often partitions are made and dropped. Default 10 minutes. */
  maintenanceMs?: number;
  /** After how much silence the server takes the slot from a frozen replica. Default 10000. */
  walSenderTimeoutMs?: number;
  /** How often a waiting replica looks whether the slot is free. Default 500. */
  standbyPollMs?: number;
  /** Awaited before each session, so at every new connection to the database, which may be another by then. If it rejects, it is tried again like a session. */
  beforeSession?: () => Promise<void>;
}

/** What the sessions of one relay share. */
export interface PostgresRelayContext {
  readonly options: PostgresRelayOptions;
  readonly state: RelayState;
  readonly db: pg.Pool;
  readonly duty: LossDuty;
}
