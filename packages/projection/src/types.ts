import type { ConnectionOptions, MsgHdrs, NatsConnection } from "nats";

/** One message of the stream as it was delivered. */
export interface RawMessage {
  data: Uint8Array;
  subject: string;
  headers: MsgHdrs | undefined;
  /** Position in the stream. Meaningful only together with the stream's incarnation: a restored stream reuses numbers. */
  seq: number;
  /** When the stream stored it. */
  time: Date;
  /** 1 for the first delivery. */
  deliveries: number;
}

/** What `apply` gets: a decoded event and where it came from. */
export interface Item<T> {
  event: T;
  seq: number;
  subject: string;
  time: Date;
  deliveries: number;
}

/**
 * What became of an item.
 * - `applied`: the store has it.
 * - `stale`: the store already has this or something newer. Fine.
 * - `retry`: not now; deliver it again a little later.
 * - `poison`: never; park it on the dead-letter stream with this reason.
 */
export type Verdict = "applied" | "stale" | "retry" | { poison: string };

/** Where a watermark was proven. */
export interface WatermarkContext {
  stream: string;
  consumer: string;
  /** When the stream was created (RFC 3339, as the server says it): its incarnation. */
  streamCreated: string;
  /** Everything up to here is acknowledged. */
  ackFloor: number;
}

export interface HeartbeatOptions<T> {
  /** Messages whose subject begins with this are heartbeats. Default `heartbeat.`. */
  subjectPrefix?: string;
  /**
   * Reads source and time of a heartbeat. Default: the last token of the subject, and `data.at` (else `time`) of the decoded event. Throw for garbage:
   * it is parked like any other.
   */
  read?(event: T, subject: string): { source: string; at: Date };
  /**
   * Everything that `source` committed before `at` is in the store and can be read. Write it to the store, where it must only grow
   * (another replica may have written a later one).
   */
  onWatermark(source: string, at: Date, context: WatermarkContext): Promise<void> | void;
}

export interface DeadLetterOptions<T> {
  /** Default `DEAD`. Somebody else creates it. */
  stream?: string;
  /** Default `dead.<consumer>.<last token of the original subject>`. `event` is undefined if the message could not be decoded. */
  subject?(message: RawMessage, event: T | undefined): string;
}

/** Structured logging as pino does it; any subset of a real logger fits. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Called as things happen. Must not throw and must be cheap. */
export interface Metrics {
  /** A batch of `n` events was settled in `ms` milliseconds (from first attempt to last verdict). */
  batch?(n: number, ms: number): void;
  /** The events of a batch that the store has now, or had already. */
  has?(subjects: string[]): void;
  stale?(n: number): void;
  dead?(n: number): void;
  /** Items given back for a later delivery. */
  retry?(n: number): void;
  /** A watermark moved: the store is true as of `seconds` ago. */
  staleness?(source: string, seconds: number): void;
  /** Messages not yet delivered plus those delivered and not yet acknowledged, over all replicas. */
  lag?(messages: number): void;
  /** The same, apart. */
  consumer?(figures: { pending: number; ackPending: number }): void;
  /** A message came that had been delivered before. */
  redelivered?(): void;
}

/** Ways to break the projector on purpose, for experiments that must notice. Never set one in earnest. */
export interface Unsafe {
  /** Acknowledge on receipt: what a crash then loses is gone. */
  ackBeforeApply?: boolean;
  /** Claim a heartbeat once the ack floor has passed its own sequence: wrong on a compacted stream. */
  naiveWatermark?: boolean;
  /** Claim it once the ack floor has passed the stream's end as it was when the heartbeat was read: still wrong on a compacted stream. */
  streamEndWatermark?: boolean;
}

/** How to reach NATS: plain settings, or a function that returns a new connection (which the projector then owns and closes). */
export type NatsSource =
  | {
      /** `nats://user:password@host:port`, or several separated by commas. */
      url: string;
      /** Shown in the server's connection list. */
      name?: string;
      /** Prefix of the private reply subjects, where the server's permissions ask for one. Default `_INBOX`. */
      inboxPrefix?: string;
      /** Anything else nats.js understands (TLS, credentials). */
      options?: ConnectionOptions;
    }
  | (() => Promise<NatsConnection>);

export interface ProjectorOptions<T> {
  nats: NatsSource;
  stream: string;
  /** Name of the durable consumer. Replicas that share it share the work. */
  consumer: string;
  /** Bytes to event. Whatever it throws makes the message poison, unless the error is marked `retryable`. */
  decode(message: RawMessage): T;
  /**
   * Brings a batch into the store and returns one verdict per item, in order. Must be idempotent: the same item may come again at any time, in any
   * order, on any replica. Resolve only when the store really has it.
   */
  apply(batch: Item<T>[]): Promise<Verdict[]>;
  heartbeat?: HeartbeatOptions<T>;
  /** Makes readers see what was applied (an index refresh). Called before every watermark. */
  flush?(): Promise<void>;
  /** Answers if the store is well, else throws. Asked only before the first success, to tell a poisonous message from a sick store. */
  probe?(): Promise<void>;
  deadLetter?: DeadLetterOptions<T>;
  /** Largest batch. Default 2,000 messages, 8 MiB. As much again may wait in memory. */
  batch?: { max?: number; maxBytes?: number };
  /** Limit of unacknowledged messages over all replicas. Default 10,000. */
  maxAckPending?: number;
  /** After this long without a sign of life a message is delivered again; whatever is held here for long is kept by signs of life. Default 10,000. */
  ackWaitMs?: number;
  /** How long a stop waits for the batch in hand. Default 10,000. */
  stopGraceMs?: number;
  logger?: Logger;
  metrics?: Metrics;
  unsafe?: Unsafe;
}

export type ProjectorState =
  | "stopped"
  | "connecting"
  | "waiting for the stream"
  | "running"
  | "waiting for the store"
  | "waiting for the broker";

export interface ProjectorStatus {
  state: ProjectorState;
  /** Per source, as of when this replica last proved the store true (ISO time). With several replicas the store's own record is the truth. */
  asOf: Record<string, string>;
  /** Age of the oldest of them in seconds. Null before the first. */
  stalenessSeconds: number | null;
  /** Undelivered plus unacknowledged messages over all replicas, at most 2 s old. Null before the first look. */
  lag: number | null;
  /** Letters of this consumer on the dead-letter stream, at most 15 s old. Null while unknown. */
  deadLetters: number | null;
  /** As last seen. */
  ackFloor: Position | null;
  /** What this process has done. */
  counts: { batches: number; events: number; stale: number; retried: number; dead: number; redelivered: number };
  /** Why it waits, if it does. */
  trouble: string | null;
}

/** A position in one incarnation of a stream. */
export interface Position {
  seq: number;
  /** When the stream was created (RFC 3339). */
  stream: string;
}

export interface Projector {
  /** Works until `signal` aborts, then finishes the batch in hand and gives the rest back. Rejects only if it is already running. */
  run(signal: AbortSignal): Promise<void>;
  status(): ProjectorStatus;
  /** Asks the server up to where everything is acknowledged. Null while there is no consumer or no broker. */
  ackFloor(): Promise<Position | null>;
}
