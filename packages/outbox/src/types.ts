/** What a relay carries from a store to JetStream. The payload is opaque: the relay never looks inside. */
export interface OutboxEvent {
  /** Identity of the event, unique per emission (a UUID does). Recorded in checkpoints, never sent as a header. */
  id: string;
  /** Name of the JetStream stream that must acknowledge it. */
  stream: string;
  /** NATS subject: no spaces, no wildcards. */
  subject: string;
  /** Becomes `Nats-Msg-Id` on an unfenced stream. On a fenced stream it is ignored: there, order is truth. */
  msgId?: string | undefined;
  /** What the event is about; erasure finds rows by it. Rows of one key must be written under one lock, see README. */
  key: string;
  /** Extra NATS headers, ASCII. */
  headers?: Record<string, string> | undefined;
  payload: string;
}

export interface StreamOptions {
  /**
   * The relay is the only publisher of this stream, and every publish carries the sequence it expects the stream to end with
   * (decision 0001). False: several publishers share the stream, repeats are removed by `Nats-Msg-Id` and by the consumers.
   */
  fence: boolean;
  /** Headers that every message of the stream carries, e.g. `{"Content-Type": "application/json"}`. */
  headers?: Record<string, string>;
}

/** The part of pino that the relays use. */
export interface RelayLogger {
  debug(context: object, message: string): void;
  info(context: object, message: string): void;
  warn(context: object, message: string): void;
  error(context: object, message: string): void;
}

/** Called synchronously on the hot path: count, do not block. */
export interface RelayMetrics {
  /** One message was stored; `seconds` from commit (PostgreSQL) or XADD (Redis) to the ack. */
  published?(stream: string, seconds: number, event: OutboxEvent): void;
  /** JetStream knew the `Nats-Msg-Id` already. */
  duplicate?(stream: string): void;
  /** One message was sent again because the stream was behind or the cursor was lost. */
  resent?(stream: string): void;
  /** A session ended by an error and is tried again. */
  restarted?(reason: string): void;
}

export interface HeartbeatOptions {
  everyMs: number;
  /** The events to write for a clock reading of the store, taken before the transaction that will carry them. */
  build(atIso: string): OutboxEvent[];
}

export interface StreamLoss {
  stream: string;
  /** Why no checkpoint holds. */
  reason: string;
  /** Every retained event of the stream was sent again; false only says that older ones are gone from the outbox too. */
  complete: boolean;
  signal: AbortSignal;
}

export interface CommonRelayOptions {
  streams: Record<string, StreamOptions>;
  logger?: RelayLogger;
  metrics?: RelayMetrics;
  heartbeat?: HeartbeatOptions;
  /**
   * The stream cannot be proven to hold what was acknowledged before the oldest event that is still retained (it was wiped, or is
   * older than the retention). All retained events were sent again; the owner should emit its current rows through the
   * outbox. Tried again until it resolves; no checkpoint of the stream is written before that. Not called at the very first start.
   */
  onStreamLost?(loss: StreamLoss): Promise<void>;
  /**
   * An event that JetStream will never take (too large, impossible subject or stream). If given, and once it resolves, the event is skipped;
   * without it the relay stops there and says so in `status().lastError`.
   */
  onPoison?(event: OutboxEvent, error: Error): Promise<void>;
  /** Called whenever one of the relay's side tasks ended: `heartbeat`, `lag`, `partitions`. `error` is undefined if it went well. */
  onTask?(task: string, error: unknown): void;
  /** Messages in flight; reading pauses there and resumes at half of it. Default 2000. */
  window?: number;
  /** Payload bytes in flight, the same way. Default 32 MiB. */
  windowBytes?: number;
  /** An unanswered publish ends the session after this; everything unconfirmed is sent again. Default 5000. */
  ackTimeoutMs?: number;
  /** How often a checkpoint is taken when something changed. Default 1000. */
  checkpointMs?: number;
  /** Longest pause between two attempts. Default 2000. */
  maxBackoffMs?: number;
  /** Mutations that a chaos test must be able to catch. Never in production. */
  unsafe?: {
    /** Confirm to the store what JetStream has not acknowledged. */
    confirmBeforeAck?: boolean;
    /** Of every so many events one counts as acknowledged and is not sent. */
    dropEvery?: number;
  };
}

export interface RelayStatus {
  /** This replica holds the lock and relays. */
  active: boolean;
  /** Seconds between now and the newest moment of which everything is relayed; null while unknown. */
  lagSeconds: number | null;
  /** Published and not yet acknowledged. */
  unacked: number;
  /** Acknowledged by JetStream since this relay was made. */
  published: number;
  duplicates: number;
  resent: number;
  /** Streams that lack what the store has committed and are fed from its table: for how long, and why they refuse, if they do. */
  owed: Record<string, { seconds: number; reason: string | null }>;
  /** Sessions that ended by an error. */
  restarts: number;
  lastError: { at: string; name: string; message: string } | null;
}

export interface Relay<S extends RelayStatus> {
  /** Relays until the signal aborts; never rejects because of a store or a broker. May be called once. */
  run(signal: AbortSignal): Promise<void>;
  status(): S;
}

/** Who keeps a new slot waiting. */
export interface Blocker {
  /** 0: a prepared transaction, which belongs to no backend. */
  pid: number;
  /** Its `application_name`, or the name of the prepared transaction. */
  application: string;
  user: string | null;
  /** "idle in transaction" and the like; null where this role may not see it (it takes `pg_read_all_stats`). */
  state: string | null;
  /** First word of its last statement. */
  query: string | null;
  /** Age of its transaction. */
  seconds: number | null;
}
