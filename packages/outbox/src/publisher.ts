import { createInbox, type Msg, MsgHdrsImpl, type NatsConnection, type Subscription } from "nats";
import { AckTimeoutError, BrokerError, FencedError, PoisonEventError } from "./errors.ts";
import { TTL_HEADER } from "./event.ts";
import { digest, type StreamState } from "./jetstream.ts";
import type { CommonRelayOptions, OutboxEvent, RelayMetrics, StreamOptions } from "./types.ts";

/** `wrong last sequence`, on a single server and in a cluster. */
const WRONG_LAST_SEQUENCE = new Set([10071, 10164]);
/** `message size exceeds maximum allowed`, `header size exceeds ...`. */
const TOO_LARGE = new Set([10054, 10097]);
const NO_RESPONDERS = 503;
/** The tag of a heartbeat. */
const CLAIM = -1;

/** When one stream does not take an event now. */
class RefusedError extends BrokerError {}

interface PubAck {
  stream?: string;
  seq?: number;
  duplicate?: boolean;
  error?: { code: number; err_code?: number; description?: string };
}

interface InFlight {
  event: OutboxEvent;
  stream: StreamCursor;
  sentAt: number;
  /** Milliseconds since the epoch at which the store took the event. */
  storedAt: number;
  bytes: number;
  tag: number;
}

/** An event that says something of those before it. */
interface Claim {
  event: OutboxEvent;
  storedAt: number;
  /** To be sent once every publish with a smaller index is acknowledged. */
  after: number;
}

/** What this publisher knows of one stream. */
interface StreamCursor {
  name: string;
  options: StreamOptions;
  /** Sequence the stream will end with once everything published so far is in. Kept for fenced streams. */
  expected: number;
  allowsTtl: boolean;
  inFlight: number;
  /** Why it takes nothing now, if it does not. */
  refuses: string | undefined;
  /** The newest stored message that stays. */
  acked: { sequence: number; event: OutboxEvent } | undefined;
}

/** The last message of a stream that this publisher knows to be stored. */
export interface Stored {
  sequence: number;
  eventId: string;
  digest: string;
}

export interface PublisherOptions {
  streams: Record<string, StreamOptions>;
  /** Each stream as it was when it was verified. */
  states: Record<string, StreamState>;
  /** Messages and payload bytes in flight at which `full` turns true. */
  window: number;
  windowBytes: number;
  ackTimeoutMs: number;
  /** Of the NATS user, where it may not listen to `_INBOX.>`. */
  inboxPrefix: string | undefined;
  /** For experiments that must notice it: of every so many events one is not sent and counts as acknowledged. */
  dropEvery?: number | undefined;
  metrics: RelayMetrics | undefined;
  /** After one or more acks. */
  onProgress(): void;
  /**
   * A stream refused an event: it is full, or there is nobody to take it. Nothing more goes to that stream before `reopen`, the others do not notice.
   * Called for each event in flight that it did not take, before that event counts as settled: whoever moves on from `acked` owes it.
   */
  onRefused(event: OutboxEvent, tag: number, reason: string): void;
  /** Once, at the first failure. Nothing is published after it. */
  onFailure(error: Error): void;
}

/**
 * Publishes to JetStream hand-pipelined: every publish names a reply subject `inbox.<n>`, one wildcard subscription reads the acks.
 * (A promise per message, as `js.publish()` makes, costs four to eight times as much.) Acks may arrive in any order; `acked`
 * only moves over those without a gap.
 *
 * On a fenced stream each publish carries the sequence the stream must end with (the last one known plus what is in flight), so that
 * whatever another publisher slips in makes JetStream refuse the rest (decision 0001).
 */
export class Publisher {
  /** Index of the next publish. */
  next = 0;
  /** Every publish with a smaller index is settled: acknowledged, or refused and told to `onRefused`. */
  acked = 0;
  bytes = 0;
  #seen = 0;
  readonly #nc: NatsConnection;
  readonly #options: PublisherOptions;
  readonly #streams = new Map<string, StreamCursor>();
  readonly #inFlight = new Map<number, InFlight>();
  /** The newest of each subject. */
  readonly #claims = new Map<string, Claim>();
  readonly #reply: string;
  readonly #subscription: Subscription;
  readonly #timer: NodeJS.Timeout;
  readonly #waiters: { ready: () => boolean; resolve: () => void; reject: (error: Error) => void }[] = [];
  #failure: Error | undefined;

  constructor(nc: NatsConnection, options: PublisherOptions) {
    this.#nc = nc;
    this.#options = options;
    for (const [name, stream] of Object.entries(options.streams)) {
      const { lastSequence = 0, allowsTtl = false } = options.states[name] ?? {};
      const cursor = { name, options: stream, expected: lastSequence, allowsTtl, inFlight: 0 };
      this.#streams.set(name, { ...cursor, refuses: undefined, acked: undefined });
    }
    this.#reply = `${createInbox(options.inboxPrefix)}.`;
    this.#subscription = nc.subscribe(`${this.#reply}*`, { callback: (error, msg) => this.#receive(error, msg) });
    this.#timer = setInterval(() => this.#checkAge(), Math.min(250, options.ackTimeoutMs / 4));
    this.#timer.unref();
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Milliseconds since the epoch at which the store took the oldest event that is not acknowledged, if any. */
  get oldestStoredAt(): number | undefined {
    return this.#inFlight.get(this.acked)?.storedAt;
  }

  /**
   * Sends one event without waiting. Returns its index.
   * @param storedAt milliseconds since the epoch, for the latency metric
   * @param tag comes back with `onRefused`
   * @throws the failure that ended this publisher, or PoisonEventError if the event cannot be sent at all
   */
  publish(event: OutboxEvent, storedAt: number, tag = 0): number {
    if (this.#failure) throw this.#failure;
    const stream = this.#streams.get(event.stream);
    if (!stream) throw this.#fail(new PoisonEventError(event, `stream ${event.stream} is not configured`));
    const index = this.next;
    this.#seen++;
    if (this.#options.dropEvery && this.#seen % this.#options.dropEvery === 0) {
      if (this.acked === this.next) this.acked++;
      return this.next++;
    }
    try {
      this.#nc.publish(event.subject, event.payload, {
        reply: this.#reply + index.toString(36),
        headers: headersOf(event, stream),
      });
    } catch (error) {
      const { message, code } = error as Error & { code?: string };
      const lost = code === "CONNECTION_CLOSED" || code === "CONNECTION_DRAINING";
      throw this.#fail(
        lost ? new BrokerError(message, { cause: error }) : new PoisonEventError(event, message, { cause: error }),
      );
    }
    this.next = index + 1;
    stream.expected++;
    stream.inFlight++;
    const bytes = event.payload.length;
    this.bytes += bytes;
    this.#inFlight.set(index, { event, stream, sentAt: performance.now(), storedAt, bytes, tag });
    return index;
  }

  /**
   * Sends an event that says something of all before it (a heartbeat) once all before it is acknowledged: a stream that is nearly full may refuse an
   * event and take the smaller one behind it, which would then not be true. Only the newest of a subject is sent, and none to a stream that refuses.
   */
  claim(event: OutboxEvent, storedAt: number): void {
    if (this.acked === this.next) this.#send({ event, storedAt, after: 0 });
    else if (!this.#claims.has(event.subject)) this.#claims.set(event.subject, { event, storedAt, after: this.next });
    // The older one goes first, or under load none ever would.
    else this.#claims.set(`${event.subject} `, { event, storedAt, after: this.next });
  }

  #send({ event, storedAt }: Claim): void {
    if (this.#failure || this.refuses(event.stream) !== undefined) return;
    try {
      this.publish(event, storedAt, CLAIM);
    } catch {
      // It has been told to `onFailure`.
    }
  }

  #sendClaims(): void {
    for (const [subject, claim] of this.#claims) {
      if (claim.after > this.acked) continue;
      this.#claims.delete(subject);
      this.#send(claim);
    }
  }

  /** Why a stream takes nothing now; undefined if it does. */
  refuses(stream: string): string | undefined {
    return this.#streams.get(stream)?.refuses;
  }

  /** Resolves once nothing is in flight to a stream; rejects with the failure that ended the publisher. */
  settled(stream: string): Promise<void> {
    return this.#until(() => (this.#streams.get(stream)?.inFlight ?? 0) === 0);
  }

  /** Publishes to a stream again that refused; it is as `state` says, and nothing is in flight to it. */
  reopen(stream: string, state: StreamState): void {
    const cursor = this.#streams.get(stream)!;
    cursor.expected = state.lastSequence;
    cursor.allowsTtl = state.allowsTtl;
    cursor.refuses = undefined;
  }

  /** Nothing goes to a stream before `reopen`. */
  shut(stream: string, reason: string): void {
    this.#streams.get(stream)!.refuses ??= reason;
  }

  /** The newest message of the stream that this publisher stored, with the digest a checkpoint needs. */
  stored(stream: string): Stored | undefined {
    const acked = this.#streams.get(stream)?.acked;
    if (!acked) return undefined;
    const { event, sequence } = acked;
    return { sequence, eventId: event.id, digest: digest(event.subject, event.payload) };
  }

  /** The window is used up: stop reading. */
  get full(): boolean {
    return this.#inFlight.size >= this.#options.window || this.bytes >= this.#options.windowBytes;
  }

  /** At most half of the window is used: read on. */
  get roomy(): boolean {
    return this.#inFlight.size <= this.#options.window / 2 && this.bytes <= this.#options.windowBytes / 2;
  }

  /** Resolves once there is room again; rejects with the failure that ended the publisher. */
  room(): Promise<void> {
    return this.#until(() => this.roomy);
  }

  /** Resolves once everything is acknowledged; rejects with the failure that ended the publisher. */
  drained(): Promise<void> {
    return this.#until(() => this.#inFlight.size === 0);
  }

  #until(ready: () => boolean): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (ready()) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiters.push({ ready, resolve, reject }));
  }

  /** Stops listening for acks. What is in flight stays unknown. */
  close(): void {
    this.#fail(new BrokerError("the publisher was closed"), true);
  }

  #receive(error: Error | null, msg: Msg): void {
    if (error) {
      this.#fail(new BrokerError(error.message, { cause: error }));
      return;
    }
    const index = Number.parseInt(msg.subject.slice(this.#reply.length), 36);
    const sent = this.#inFlight.get(index);
    if (!sent || this.#failure) return;
    const { stream } = sent;
    const failure = this.#read(msg, sent);
    if (failure && (failure instanceof RefusedError || stream.refuses !== undefined)) {
      // A heartbeat that is not taken is not owed, the next one says more; but behind it a fenced stream does not end where it should.
      if (sent.tag !== CLAIM || stream.options.fence) {
        stream.refuses ??= failure.message;
        this.#options.onRefused(sent.event, sent.tag, failure.message);
      }
    } else if (failure) {
      this.#fail(failure);
      return;
    }
    this.#inFlight.delete(index);
    stream.inFlight--;
    this.bytes -= sent.bytes;
    while (this.acked < this.next && !this.#inFlight.has(this.acked)) this.acked++;
    this.#options.onProgress();
    if (this.#claims.size > 0) this.#sendClaims();
    if (this.#waiters.length > 0) this.#wake();
  }

  /** Reads an ack. Returns the error it stands for, if it is none. */
  #read(msg: Msg, sent: InFlight): Error | undefined {
    const { event, stream } = sent;
    if (msg.data.length === 0) {
      const nobody = msg.headers?.code === NO_RESPONDERS;
      if (nobody) return new RefusedError(`no stream takes ${event.subject}`);
      return new BrokerError(`empty answer to ${event.subject}`);
    }
    const ack = JSON.parse(msg.string()) as PubAck;
    if (ack.error) {
      const { err_code: code = 0, description = "refused" } = ack.error;
      if (WRONG_LAST_SEQUENCE.has(code)) return new FencedError(stream.name, description);
      if (TOO_LARGE.has(code)) return new PoisonEventError(event, description);
      return new RefusedError(`${stream.name} refused ${event.subject}: ${description} (${code})`);
    }
    if (ack.stream !== stream.name || ack.seq === undefined) {
      return new PoisonEventError(event, `${event.subject} is taken by stream ${ack.stream}, not ${stream.name}`);
    }
    const stays = event.headers?.[TTL_HEADER] === undefined;
    if (stays && !(stream.acked && stream.acked.sequence >= ack.seq)) stream.acked = { sequence: ack.seq, event };
    if (ack.duplicate) {
      this.#options.metrics?.duplicate?.(stream.name);
    } else {
      this.#options.metrics?.published?.(stream.name, Math.max(0, Date.now() - sent.storedAt) / 1000, event);
    }
    return undefined;
  }

  #checkAge(): void {
    // Indexes are sent in order, so the oldest unanswered one is the one at `acked`.
    const oldest = this.#inFlight.get(this.acked);
    if (!oldest) return;
    const age = performance.now() - oldest.sentAt;
    if (age < this.#options.ackTimeoutMs) return;
    this.#fail(new AckTimeoutError(`no ack of ${oldest.event.subject} for ${Math.round(age)} ms`));
  }

  #wake(): void {
    for (let i = this.#waiters.length - 1; i >= 0; i--) {
      if (this.#waiters[i]!.ready()) this.#waiters.splice(i, 1)[0]!.resolve();
    }
  }

  #fail(error: Error, quiet = false): Error {
    if (this.#failure) return this.#failure;
    this.#failure = error;
    clearInterval(this.#timer);
    if (!this.#nc.isClosed()) this.#subscription.unsubscribe();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
    if (!quiet) this.#options.onFailure(error);
    return error;
  }
}

/** A publisher with the options of a relay, that counts into the relay's state. */
export function createPublisher(
  nc: NatsConnection,
  relay: CommonRelayOptions,
  inboxPrefix: string | undefined,
  counts: { published: number; duplicates: number },
  states: Record<string, StreamState>,
  on: Pick<PublisherOptions, "onProgress" | "onRefused" | "onFailure">,
): Publisher {
  return new Publisher(nc, {
    streams: relay.streams,
    states,
    window: relay.window ?? 2_000,
    windowBytes: relay.windowBytes ?? 32 * 1024 * 1024,
    ackTimeoutMs: relay.ackTimeoutMs ?? 5_000,
    inboxPrefix,
    dropEvery: relay.unsafe?.dropEvery,
    metrics: {
      published: (stream, seconds, event) => {
        counts.published++;
        relay.metrics?.published?.(stream, seconds, event);
      },
      duplicate: (stream) => {
        counts.duplicates++;
        relay.metrics?.duplicate?.(stream);
      },
    },
    ...on,
  });
}

function headersOf(event: OutboxEvent, stream: StreamCursor): MsgHdrsImpl {
  const headers = new MsgHdrsImpl();
  for (const name in stream.options.headers) headers.set(name, stream.options.headers[name]!);
  for (const name in event.headers) {
    if (name !== TTL_HEADER || stream.allowsTtl) headers.set(name, event.headers[name]!);
  }
  // Never both: a repeat that JetStream swallows as a duplicate would leave an older message as the last one of its subject.
  if (stream.options.fence) headers.set("Nats-Expected-Last-Sequence", String(stream.expected));
  else if (event.msgId) headers.set("Nats-Msg-Id", event.msgId);
  return headers;
}
