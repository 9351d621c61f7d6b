import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import type { NatsConnection } from "nats";
import { BrokerError, LeaseLostError, StoreError, StreamChangedError } from "../errors.ts";
import { connectNats, type StreamState, streamState } from "../jetstream.ts";
import { every, everyTask, Outcome, pause } from "../loop.ts";
import { createPublisher, type Publisher } from "../publisher.ts";
import type { OutboxEvent } from "../types.ts";
import { verifyStream } from "../verify.ts";
import { appendRedisOutbox } from "./append.ts";
import {
  advance,
  type EntryPosition,
  type EntryStreamPosition,
  readCursor,
  readEntryCheckpoints,
  readTrimmed,
  refuteEntryCheckpoints,
  thinEntryCheckpoints,
  trim,
} from "./checkpoints.ts";
import { readEnd } from "./end.ts";
import { compareEntries, entryTime, FIRST_ENTRY } from "./keys.ts";
import { Lease } from "./lease.ts";
import type { RedisRelayContext } from "./options.ts";

const BATCH = 500;
const BLOCK_MS = 1_000;
/** Header of an entry that is a heartbeat: it goes out when all before it is acknowledged. Never sent. */
const HEARTBEAT = "Outbox-Heartbeat";
const HOUR_MS = 3_600_000;

type Entries = [id: string, fields: string[]][];

/**
 * One attempt at relaying, from connecting to the first thing that goes wrong: connect to NATS, get the lease, compare every stream with the
 * checkpoints, then read on from the oldest position that any stream needs. Nothing survives it but what Redis remembers.
 */
export class RedisSession {
  /** Every entry up to this one is acknowledged. */
  acknowledged: EntryPosition | undefined;
  readonly #context: RedisRelayContext;
  #outcome!: Outcome;
  #nc!: NatsConnection;
  #lease!: Lease;
  #publisher!: Publisher;
  #reader: Redis | undefined;
  readonly #streams = new Map<string, EntryStreamPosition>();
  /** Entries that each stream holds for certain; only later ones are published to it. */
  readonly #from = new Map<string, string>();
  /** The cursor as it was: what is sent up to there is sent again. */
  #relayedBefore = FIRST_ENTRY;
  #position: EntryPosition = { entry: FIRST_ENTRY, added: 0 };
  readonly #marks: { index: number; position: EntryPosition }[] = [];
  #written: string | undefined;
  #mayTrim = false;
  /** An entry was refused: from here on what is settled is not all acknowledged. */
  #refused = false;
  #thinnedAt = performance.now();
  #countedAt = Number.NEGATIVE_INFINITY;

  constructor(context: RedisRelayContext) {
    this.#context = context;
  }

  get unacked(): number {
    return this.#publisher?.inFlight ?? 0;
  }

  /** Resolves once the signal aborts and everything in flight is settled; rejects with what went wrong. */
  async run(signal: AbortSignal): Promise<void> {
    const { options, state } = this.#context;
    this.#outcome = new Outcome(signal);
    const failed = (error: unknown) => this.#outcome.fail(error);
    const stops: (() => void)[] = [];
    try {
      this.#nc = await connectNats({ name: "outbox relay", ...options.nats });
      void this.#nc.closed().then((error) => {
        failed(new BrokerError(`the NATS connection was lost${error ? `: ${error.message}` : ""}`));
      });
      if (!(await this.#takeLease())) return;
      state.active = true;
      state.logger.info({ token: this.#lease.token }, "relay has the lease");
      stops.push(every((options.leaseMs ?? 5_000) / 4, () => this.#lease.renew(), failed));
      await this.#verify();
      const reading = this.#read().catch(failed);
      stops.push(every(options.checkpointMs ?? 1_000, () => this.#checkpoint(), failed));
      if (options.heartbeat) {
        stops.push(everyTask(state, "heartbeat", options.heartbeat.everyMs, () => this.#heartbeat()));
      }
      await this.#outcome.promise;
      for (const stop of stops.splice(0)) stop();
      await this.#finish(reading);
    } finally {
      for (const stop of stops) stop();
      state.active = false;
      this.#outcome.end();
      this.#publisher?.close();
      this.#reader?.disconnect();
      await this.#nc?.close().catch(() => {});
      // Nobody should have to wait for it to expire, least of all this replica's next session.
      if (this.#lease) await Promise.race([this.#lease.release().catch(() => {}), pause(500)]);
    }
  }

  /** Waits for the lease. Returns false if the session was ended meanwhile. */
  async #takeLease(): Promise<boolean> {
    const { options, redis, keys } = this.#context;
    const owner = randomUUID();
    while (!this.#outcome.settled) {
      const lease = await Lease.acquire(redis, keys, owner, options.leaseMs ?? 5_000);
      if (lease) {
        this.#lease = lease;
        return true;
      }
      await Promise.race([pause(options.standbyPollMs ?? 500), this.#outcome.promise]);
    }
    await this.#outcome.promise;
    return false;
  }

  /** Compares every stream with its checkpoints, and sets from where to read. */
  async #verify(): Promise<void> {
    const { options, state, redis, keys, duty } = this.#context;
    const [cursor, trimmed, end] = await Promise.all([
      readCursor(redis, keys),
      readTrimmed(redis, keys),
      readEnd(redis, keys),
    ]);
    this.#relayedBefore = cursor?.entry ?? FIRST_ENTRY;
    const states: Record<string, StreamState> = {};
    const start: EntryPosition = { entry: FIRST_ENTRY, added: end.added - end.length };
    let first: EntryPosition | undefined;
    for (const stream of Object.keys(options.streams)) {
      const history = await readEntryCheckpoints(redis, keys, stream);
      const { state: now, verdict } = await verifyStream(this.#nc, stream, history);
      states[stream] = now;
      const last = "checkpoint" in verdict ? verdict.checkpoint : undefined;
      const { sequence = 0, eventId = null, digest = null } = last ?? {};
      this.#streams.set(stream, { stream, incarnation: now.incarnation, sequence, eventId, digest });
      let from = last?.position ?? start;
      // A cursor that somebody set back is a wish.
      if (cursor && compareEntries(cursor.entry, from.entry) < 0) from = cursor;
      if (verdict.kind === "behind" || verdict.kind === "lost") {
        const { kind, reason } = verdict;
        state.logger.error({ stream, verdict: kind, reason }, "stream lacks what it acknowledged");
        await refuteEntryCheckpoints(redis, keys, this.#lease, stream, last);
      }
      if (verdict.kind === "lost") duty.owe(stream, verdict.reason, trimmed === FIRST_ENTRY);
      else if (history.known && compareEntries(from.entry, trimmed) < 0) {
        duty.owe(stream, "what it lacks is older than the retention", false);
      }
      this.#from.set(stream, from.entry);
      if (!first || compareEntries(from.entry, first.entry) < 0) first = from;
    }
    this.#position = first ?? start;
    this.acknowledged = this.#position;
    this.#publisher = createPublisher(this.#nc, options, options.nats.inboxPrefix, state, states, {
      onProgress: () => this.#progress(),
      onRefused: (event, _tag, reason) => {
        const began = state.owing.get(event.stream)?.began ?? performance.now();
        state.owing = new Map([...state.owing, [event.stream, { began, reason }]]);
        if (this.#refused) return;
        // The entries stay where they are, and so does the cursor, right before the first of them; the next session tries them again.
        const written = this.#checkpoint().catch(() => {});
        this.#refused = true;
        void written.then(() => this.#outcome.fail(new BrokerError(reason)));
      },
      onFailure: (error) => this.#outcome.fail(error),
    });
  }

  async #read(): Promise<void> {
    const { redis, keys } = this.#context;
    // A connection of its own, since it blocks; a lost one ends the session.
    const reader = redis.duplicate({ retryStrategy: () => null, commandTimeout: BLOCK_MS + 5_000 });
    this.#reader = reader;
    reader.on("error", () => {});
    reader.on("end", () => this.#outcome.fail(new StoreError("the Redis connection was lost")));
    while (!this.#outcome.settled) {
      const { entry } = this.#position;
      const reply = await reader.xread("COUNT", BATCH, "BLOCK", BLOCK_MS, "STREAMS", keys.events, entry);
      const entries = (reply?.[0]?.[1] ?? []) as Entries;
      // This process may have been frozen: what it would publish now is another replica's to publish.
      if (this.#lease.expired) throw new LeaseLostError("the lease was not renewed in time");
      for (const [id, fields] of entries) {
        if (this.#outcome.settled) return;
        this.#publish(id, fields);
      }
      // At the end the number of entries is known again, whatever was erased in between.
      if (entries.length < BATCH && performance.now() - this.#countedAt > BLOCK_MS) await this.#caughtUp();
      if (this.#publisher.full) await this.#publisher.room();
    }
  }

  async #caughtUp(): Promise<void> {
    const { redis, keys } = this.#context;
    const end = await readEnd(redis, keys);
    this.#countedAt = performance.now();
    if (end.last === this.#position.entry) this.#position.added = end.added;
    // The end of what was relayed before may have been erased: having read all there is, we are past it.
    else if (compareEntries(this.#position.entry, this.#relayedBefore) < 0 && end.last === this.#relayedBefore) {
      this.#position = { entry: end.last, added: end.added };
      this.#marks.push({ index: this.#publisher.next, position: this.#position });
      this.#progress();
    }
  }

  #publish(id: string, fields: string[]): void {
    const { state, options } = this.#context;
    const event = eventOf(fields);
    this.#position = { entry: id, added: this.#position.added + 1 };
    const from = this.#from.get(event.stream);
    if (!state.skipped.has(event.id) && (from === undefined || compareEntries(id, from) > 0)) {
      if (event.headers?.[HEARTBEAT]) this.#publisher.claim(withoutMark(event), entryTime(id));
      else this.#publisher.publish(event, entryTime(id));
      if (compareEntries(id, this.#relayedBefore) <= 0) {
        state.resent++;
        options.metrics?.resent?.(event.stream);
      }
    }
    this.#marks.push({ index: this.#publisher.next, position: this.#position });
    if (this.#publisher.inFlight === 0) this.#progress();
  }

  #progress(): void {
    if (this.#refused) return;
    let done = 0;
    while (done < this.#marks.length && this.#marks[done]!.index <= this.#publisher.acked) done++;
    if (done === 0) return;
    this.acknowledged = this.#marks[done - 1]!.position;
    this.#marks.splice(0, done);
  }

  /** Writes down how far every stream is and moves the cursor there, in one step; then removes what may go. */
  async #checkpoint(): Promise<void> {
    const { options, keys, duty, redis } = this.#context;
    // Both are taken in one go: nothing is acknowledged between the two.
    const position = this.acknowledged;
    const streams = [...this.#streams.values()].map((known) => {
      const stored = this.#publisher.stored(known.stream);
      // A duplicate is acknowledged with the sequence it has had all along, which may be an old one.
      return stored && stored.sequence > known.sequence ? { ...known, ...stored } : known;
    });
    if (!position || compareEntries(position.entry, this.#relayedBefore) < 0) return;
    for (const { stream, incarnation, sequence } of streams) {
      const now = await streamState(this.#nc, stream, options.ackTimeoutMs ?? 5_000);
      if (now.incarnation !== incarnation) throw new StreamChangedError(`stream ${stream} was made anew`);
      if (now.lastSequence < sequence)
        throw new StreamChangedError(`stream ${stream} went back to ${now.lastSequence}`);
    }
    const proven = streams.filter(({ stream }) => !duty.owes(stream));
    const content = `${position.entry} ${proven.map(({ stream }) => stream).join()}`;
    if (content !== this.#written) {
      await advance(keys, this.#lease, position, proven);
      if (!this.#refused) this.#context.state.owing = new Map();
      this.#written = content;
      this.#mayTrim = true;
    }
    const { prefix = "outbox", retentionMs = HOUR_MS, maxEntries = 100_000 } = options;
    if (this.#mayTrim) {
      const oldestMs = Number((await redis.time())[0]) * 1000 - retentionMs;
      while ((await trim(keys, this.#lease, { prefix, oldestMs, maxEntries })) === BATCH && !this.#outcome.settled);
    }
    if (performance.now() - this.#thinnedAt > 60_000) {
      this.#thinnedAt = performance.now();
      for (const { stream } of proven) {
        await thinEntryCheckpoints(redis, keys, this.#lease, stream, retentionMs + HOUR_MS);
      }
    }
  }

  /** The clock is read first, the entry is added later: whatever was added before the reading lies before it. */
  async #heartbeat(): Promise<void> {
    const { options, redis } = this.#context;
    const [seconds, micros] = (await redis.time()).map(Number) as [number, number];
    const at = new Date(seconds * 1000 + Math.floor(micros / 1000)).toISOString();
    const events = options.heartbeat!.build(at);
    if (events.length === 0 || this.#outcome.settled) return;
    await appendRedisOutbox(
      redis,
      events.map((event) => ({ ...event, key: "", headers: { ...event.headers, [HEARTBEAT]: "1" } })),
      options.prefix,
    );
  }

  /** After an abort: gives what is in flight a moment, and records how far it got. */
  async #finish(reading: Promise<void>): Promise<void> {
    this.#reader?.disconnect();
    await Promise.race([reading.then(() => this.#publisher.drained()), pause(2_000)]).catch(() => {});
    await this.#checkpoint().catch(() => {});
  }
}

/** Without what only the relay has to know. */
function withoutMark({ headers, ...event }: OutboxEvent): OutboxEvent {
  const { [HEARTBEAT]: _, ...rest } = headers ?? {};
  return Object.keys(rest).length > 0 ? { ...event, headers: rest } : event;
}

function eventOf(fields: string[]): OutboxEvent {
  const value: Record<string, string | undefined> = {};
  for (let i = 0; i < fields.length; i += 2) value[fields[i]!] = fields[i + 1];
  return {
    id: value.id ?? "",
    stream: value.stream ?? "",
    subject: value.subject ?? "",
    msgId: value.msg_id || undefined,
    key: value.key ?? "",
    headers: value.headers ? JSON.parse(value.headers) : undefined,
    payload: value.payload ?? "",
  };
}
