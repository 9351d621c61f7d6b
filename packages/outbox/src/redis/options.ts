import type { Redis, RedisOptions } from "ioredis";
import type { ConnectionOptions } from "nats";
import type { RelayState } from "../loop.ts";
import type { LossDuty } from "../loss.ts";
import type { CommonRelayOptions } from "../types.ts";
import type { OutboxKeys } from "./lease.ts";

export interface RedisRelayOptions extends CommonRelayOptions {
  /** `redis://user:password@host:port/db` */
  url: string;
  /** Further options of ioredis (TLS, Sentinel). */
  redis?: RedisOptions;
  /** Of every key. Default "outbox". */
  prefix?: string;
  nats: ConnectionOptions;
  /** How long a replica that went silent keeps the right to relay. Default 5000. */
  leaseMs?: number;
  /** How often a waiting replica asks for the lease. Default 500. */
  standbyPollMs?: number;
  /** How long relayed entries stay republishable. Default one hour. */
  retentionMs?: number;
  /** How many entries are kept at most; only relayed ones are ever removed. Default 100000. */
  maxEntries?: number;
}

/** What the sessions of one relay share. */
export interface RedisRelayContext {
  readonly options: RedisRelayOptions;
  readonly state: RelayState;
  readonly redis: Redis;
  readonly keys: OutboxKeys;
  readonly duty: LossDuty;
}
