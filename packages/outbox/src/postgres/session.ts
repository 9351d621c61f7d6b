import type { NatsConnection } from "nats";
import { BrokerError, StoreError, StreamChangedError } from "../errors.ts";
import { connectNats, type StreamState, streamState } from "../jetstream.ts";
import { every, everyTask, Outcome, pause } from "../loop.ts";
import { createPublisher, type Publisher } from "../publisher.ts";
import type { OutboxEvent } from "../types.ts";
import { verifyStream } from "../verify.ts";
import {
  readCheckpoints,
  readHorizon,
  refuteCheckpoints,
  type StreamPosition,
  thinCheckpoints,
  writeCheckpoints,
} from "./checkpoints.ts";
import { Feed } from "./feed.ts";
import type { PostgresRelayContext } from "./options.ts";
import { noteOwed, readOwed, settleOwed } from "./owed.ts";
import { PgOutputDecoder, type PgOutputHandler, POSTGRES_EPOCH_MICROS, type Row } from "./pgoutput.ts";
import { ReplicationConnection } from "./replication.ts";
import { readRound } from "./resend.ts";
import {
  formatLsn,
  makeSlot,
  parseLsn,
  readRelayRow,
  readSlot,
  readSystemId,
  type SlotMaking,
  takeOverDebt,
} from "./slot.ts";
import { Snapshot } from "./snapshot.ts";

const WAL_SENDER_TIMEOUT_MS = 10_000;
const THIN_EVERY_MS = 60_000;
/** A slot that does not stand after this waits for a transaction: until it does, the table is relayed. */
const SLOT_GRACE_MS = 500;
/** Between two looks at the table. */
const ROUND_MS = 100;
/** Between two tries of a stream that refuses. */
const AGAIN_MS = 1_000;

/**
 * One attempt at relaying, from connecting to the first thing that goes wrong: connect to NATS, get the slot, compare every stream with the
 * checkpoints, then follow the WAL. A stream that lacks something, or refuses something, is fed from the table (`Feed`) until it has all that
 * the WAL has told of; the others do not wait for it. While there is no slot, every stream is. Nothing survives a session but what the database remembers.
 */
export class PostgresSession {
  /** Everything that committed before this position is acknowledged. */
  acknowledged: bigint | undefined;
  readonly #context: PostgresRelayContext;
  #outcome!: Outcome;
  #nc!: NatsConnection;
  #replication: ReplicationConnection | undefined;
  #systemId = "";
  #publisher!: Publisher;
  /** What is known of each stream beside what this session published. */
  readonly #streams = new Map<string, KnownStream>();
  /** Streams that do not have all that the WAL has told of. */
  readonly #feeds = new Map<string, Feed>();
  #making: SlotMaking | undefined;
  /** Positions that may be confirmed once every publish below the index is acknowledged. */
  readonly #marks: { index: number; position: bigint }[] = [];
  /** Where the slot stood when this session looked; it cannot have moved back since. */
  #confirmedBefore = 0n;
  #inTransaction = false;
  #committedAt = 0;
  #xid = 0;
  /** A horizon that becomes true once `lsn` is acknowledged. */
  #awaited: { horizon: string; lsn: bigint } | undefined;
  #horizon: string | undefined;
  #written: string | undefined;
  #thinnedAt = performance.now();

  constructor(context: PostgresRelayContext) {
    this.#context = context;
  }

  get unacked(): number {
    return this.#publisher?.inFlight ?? 0;
  }

  /** Resolves once the signal aborts and everything in flight is settled; rejects with what went wrong. */
  async run(signal: AbortSignal): Promise<void> {
    const { options, state } = this.#context;
    this.#outcome = new Outcome(signal);
    const stops: (() => void)[] = [];
    try {
      this.#nc = await connectNats({ name: `outbox relay ${options.slot}`, ...options.nats });
      void this.#nc.closed().then((error) => {
        this.#outcome.fail(new BrokerError(`the NATS connection was lost${error ? `: ${error.message}` : ""}`));
      });
      if (!(await this.#takeSlot())) return;
      if (!this.#publisher) {
        await this.#verify();
        state.active = true;
      }
      state.logger.info({ slot: options.slot }, "relay has the slot");
      this.acknowledged = this.#confirmedBefore;
      this.#replication!.open();

      stops.push(
        every(
          options.checkpointMs ?? 1_000,
          () => this.#checkpoint(),
          (error) => this.#outcome.fail(error),
        ),
      );
      if (options.heartbeat) {
        stops.push(everyTask(state, "heartbeat", options.heartbeat.everyMs, () => this.#heartbeat()));
      }
      await this.#outcome.promise;
      for (const stop of stops.splice(0)) stop();
      await this.#finish();
    } finally {
      for (const stop of stops) stop();
      state.active = false;
      state.slotWaitsFor = undefined;
      state.owing = new Map();
      this.#outcome.end();
      await this.#making?.abandon();
      this.#publisher?.close();
      this.#replication?.close();
      await this.#nc?.close().catch(() => {});
    }
  }

  /** Waits until the slot is free, makes it if it is missing or lost. Returns false if the session was ended meanwhile. */
  async #takeSlot(): Promise<boolean> {
    const { options, state, db } = this.#context;
    while (!this.#outcome.settled) {
      const slot = await readSlot(db, options.slot).catch((error) => {
        throw new StoreError(`PostgreSQL cannot be asked for the slot: ${error.message}`, { cause: error });
      });
      if (!slot || slot.invalidated || slot.unfinished) {
        const why = slot?.invalidated ? `invalidated: ${slot.invalidated}` : "missing";
        this.#making = await makeSlot(
          db,
          options.slot,
          Object.keys(options.streams),
          options.walSenderTimeoutMs ?? WAL_SENDER_TIMEOUT_MS,
        );
        if (this.#making) {
          state.logger.warn(
            { slot: options.slot, why },
            "replication slot is made anew, the gap is sent from the table",
          );
          await this.#untilMade(this.#making);
          this.#making = undefined;
          continue;
        }
      } else if (!slot.active) {
        this.#replication = await this.#startReplication();
        this.#confirmedBefore = slot.confirmed;
        if (this.#replication) return true;
        // What this session has sent from the table belongs to the time before another replica took the slot.
        if (this.#publisher) throw new StoreError("another replica was quicker to take the new slot");
      }
      await Promise.race([pause(options.standbyPollMs ?? 500), this.#outcome.promise]);
    }
    await this.#outcome.promise;
    return false;
  }

  /** A new slot waits for every transaction that writes. If that takes long, the table is relayed meanwhile: the right to make the slot is the lock. */
  async #untilMade(making: SlotMaking): Promise<void> {
    const { options, state } = this.#context;
    const over = Promise.race([making.created.then(() => true), this.#outcome.promise.then(() => true)]);
    over.catch(() => {});
    if (await Promise.race([over, pause(SLOT_GRACE_MS)])) return;
    await this.#verify();
    state.active = true;
    const began = performance.now();
    let told: number | undefined;
    for (;;) {
      const blocker = await making.blocker().catch(() => undefined);
      const waitedSeconds = Math.round((performance.now() - began) / 1000);
      state.slotWaitsFor = { blocker, since: began };
      if (blocker && blocker.pid !== told) {
        told = blocker.pid;
        state.logger.warn(
          { slot: options.slot, ...blocker, waitedSeconds },
          "the new replication slot waits for a transaction to end; meanwhile the table is relayed",
        );
      }
      if (await Promise.race([over, pause(1_000)])) break;
    }
    state.slotWaitsFor = undefined;
    state.logger.info({ slot: options.slot }, "the new replication slot stands");
  }

  /** Undefined if another replica was quicker. */
  async #startReplication(): Promise<ReplicationConnection | undefined> {
    const { connectionString, slot, publication, walSenderTimeoutMs = WAL_SENDER_TIMEOUT_MS } = this.#context.options;
    const decoder = new PgOutputDecoder(this.#handler());
    try {
      return await ReplicationConnection.start(
        { connectionString, slot, publication, walSenderTimeoutMs },
        {
          data: (buffer, offset) => {
            if (this.#outcome.settled) return;
            try {
              decoder.decode(buffer, offset);
            } catch (error) {
              this.#outcome.fail(error);
            }
          },
          keepalive: (walEnd) => {
            if (!this.#inTransaction) this.#mark(walEnd);
          },
          failed: (error) => this.#outcome.fail(error),
        },
      );
    } catch (error) {
      const { code, message } = error as Error & { code?: string };
      // object_in_use: another replica has it. object_not_in_prerequisite_state, undefined_object: look at the slot again.
      if (code === "55006" || code === "55000" || code === "42704") return undefined;
      throw new StoreError(`replication cannot start: ${message}`, { cause: error });
    }
  }

  /** Compares every stream with its checkpoints. Those that lack something are fed from the table; those that cannot be asked too, when they can be. */
  async #verify(): Promise<void> {
    const { options, state, db } = this.#context;
    this.#systemId = await readSystemId(db);
    const { resendFrom } = await readRelayRow(db, options.slot);
    if (resendFrom !== null) await takeOverDebt(db, options.slot, Object.keys(options.streams));
    const owed = await readOwed(db, options.slot);
    const states: Record<string, StreamState> = {};
    let unknown: unknown;
    for (const stream of Object.keys(options.streams)) {
      try {
        states[stream] = await this.#verifyStream(stream, owed.has(stream));
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        unknown = error;
        this.#feeds.set(stream, new Feed(stream, undefined, owed.has(stream), error.message));
      }
    }
    // None at all: it is the broker that is away.
    if (Object.keys(states).length === 0) throw unknown;
    this.#publisher = createPublisher(this.#nc, options, options.nats.inboxPrefix, state, states, {
      onProgress: () => this.#progress(),
      onRefused: (event, tag, reason) => this.#refused(event, tag, reason),
      onFailure: (error) => this.#outcome.fail(error),
    });
    this.#tellOwing();
    for (const feed of this.#feeds.values()) {
      if (feed.reason) this.#publisher.shut(feed.stream, feed.reason);
      void this.#feed(feed);
    }
  }

  async #verifyStream(stream: string, owed: boolean): Promise<StreamState> {
    const { options, state, db, duty } = this.#context;
    const history = await readCheckpoints(db, options.slot, stream, this.#systemId);
    const { state: now, verdict } = await verifyStream(this.#nc, stream, history);
    const { droppedUntil } = await readRelayRow(db, options.slot);
    const last = "checkpoint" in verdict ? verdict.checkpoint : undefined;
    const { sequence = 0, eventId = null, digest = null } = last ?? {};
    const horizon = last?.position.horizon ?? "0";
    this.#streams.set(stream, { stream, incarnation: now.incarnation, sequence, eventId, digest, horizon });
    if (verdict.kind === "behind" || verdict.kind === "lost") {
      state.logger.error(
        { stream, verdict: verdict.kind, reason: verdict.reason },
        "stream lacks what it acknowledged",
      );
      await refuteCheckpoints(db, options.slot, stream, last);
    }
    const lacks = owed || verdict.kind !== "holds";
    const gone = droppedUntil !== null && BigInt(horizon) <= BigInt(droppedUntil);
    if (verdict.kind === "lost") duty.owe(stream, verdict.reason, droppedUntil === null);
    else if (lacks && history.known && gone) duty.owe(stream, "what it lacks is older than the retention", false);
    const feed = this.#feeds.get(stream);
    if (feed) feed.since = horizon;
    else if (lacks) this.#feeds.set(stream, new Feed(stream, horizon, owed));
    // Until a newer one is true, the checkpoints of this session have the oldest horizon that any stream can rely on.
    else if (this.#horizon === undefined || BigInt(horizon) < BigInt(this.#horizon)) this.#horizon = horizon;
    return now;
  }

  /** A stream did not take an event: from now on it is fed from the table. */
  #refused(event: OutboxEvent, tag: number, reason: string): void {
    const { state } = this.#context;
    let feed = this.#feeds.get(event.stream);
    if (!feed || feed.joined) {
      state.refused(event.stream, reason);
      if (feed) feed.part();
      else feed = new Feed(event.stream, this.#streams.get(event.stream)!.horizon, false, reason);
      this.#feeds.set(event.stream, feed);
      void this.#feed(feed);
    }
    feed.reason ??= reason;
    // Those from the WAL will not come by it again; the table has them, once their transaction can be seen.
    if (tag > 0) feed.dropped.add(tag);
  }

  /** Feeds a stream from the table, round by round, until it has all that the WAL has told of. */
  async #feed(feed: Feed): Promise<void> {
    const { stream } = feed;
    const { options, state } = this.#context;
    try {
      while (!this.#outcome.settled && !feed.joined) {
        let wait = ROUND_MS;
        if (this.#publisher.refuses(stream) !== undefined) {
          await this.#publisher.settled(stream);
          const now = await this.#ask(feed);
          if (now) this.#publisher.reopen(stream, now);
          else wait = AGAIN_MS;
        }
        if (this.#publisher.refuses(stream) === undefined) {
          const all = await this.#round(feed);
          if (this.#publisher.refuses(stream) !== undefined) wait = AGAIN_MS;
          else {
            feed.reason = undefined;
            if (all && this.#replication?.opened && feed.join(this.#publisher)) {
              const { count } = feed;
              if (count > 0) state.logger.warn({ stream, count }, "sent retained events again");
            }
          }
        }
        this.#tellOwing();
        if (!feed.joined)
          await Promise.race([pause(Math.min(wait, options.maxBackoffMs ?? wait)), this.#outcome.promise]);
      }
    } catch (error) {
      this.#outcome.fail(error);
    }
  }

  #tellOwing(): void {
    const open = [...this.#feeds.values()].filter((feed) => !feed.joined);
    this.#context.state.owing = new Map(open.map((feed) => [feed.stream, feed]));
  }

  /** The stream as it is now, or undefined while it cannot be asked. */
  async #ask(feed: Feed): Promise<StreamState | undefined> {
    try {
      const known = this.#streams.get(feed.stream);
      if (!known) return await this.#verifyStream(feed.stream, feed.noted);
      const now = await streamState(this.#nc, feed.stream);
      if (now.incarnation === known.incarnation) return now;
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      feed.reason = error.message;
      return undefined;
    }
    throw new StreamChangedError(`stream ${feed.stream} was made anew`);
  }

  /** One look at the table. Returns whether all that it saw is acknowledged. */
  async #round(feed: Feed): Promise<boolean> {
    const { options, state, db } = this.#context;
    const { stream } = feed;
    // What comes by the WAL from here on is kept: if the snapshot does not see it, it follows the rows that the snapshot does see.
    feed.begin(options.window ?? 2_000);
    const { at, snapshot, rows } = await readRound(db, { stream, since: feed.since!, seen: feed.seen });
    feed.taken(snapshot);
    let sent = 0;
    for await (const batch of rows) {
      for (const row of batch) {
        if (this.#outcome.settled || this.#publisher.refuses(stream) !== undefined) return false;
        if (this.#publisher.full) await this.#publisher.room();
        if (state.skipped.has(row.event.id)) continue;
        this.#publisher.publish(row.event, row.at);
        // A stream that has refused is asked with one event whether it takes any.
        if (feed.reason && sent === 0) await this.#publisher.settled(stream);
        options.metrics?.resent?.(stream);
        state.resent++;
        sent++;
      }
    }
    await this.#publisher.settled(stream);
    if (this.#outcome.settled || this.#publisher.refuses(stream) !== undefined) return false;
    feed.sent(snapshot, sent);
    await this.#checkpointFeed(feed, snapshot);
    // While the WAL does not bring them, the heartbeats come from here.
    const joins = this.#replication?.opened && feed.complete;
    if (options.heartbeat && !joins && performance.now() - feed.beatAt >= options.heartbeat.everyMs) {
      feed.beatAt = performance.now();
      for (const event of options.heartbeat.build(at)) {
        if (event.stream === stream) this.#publisher.claim(event, Date.parse(at));
      }
    }
    return true;
  }

  /** Every row of a transaction older than the snapshot's horizon is acknowledged. */
  async #checkpointFeed(feed: Feed, { xmin }: Snapshot): Promise<void> {
    const { options, db, duty } = this.#context;
    const known = this.#position(this.#streams.get(feed.stream)!);
    if (known.horizon === xmin && known.sequence === this.#streams.get(feed.stream)!.sequence) return;
    if (duty.owes(feed.stream) || performance.now() - feed.checkpointAt < (options.checkpointMs ?? 1_000)) return;
    feed.checkpointAt = performance.now();
    await this.#compare(known);
    const place = { systemId: this.#systemId, horizon: xmin, lsn: formatLsn(this.acknowledged ?? 0n) };
    await writeCheckpoints(db, options.slot, place, [known]);
    this.#streams.set(feed.stream, { ...known, horizon: xmin });
  }

  #handler(): PgOutputHandler {
    const prefix = this.#heartbeatPrefix;
    return {
      begin: (micros, xid) => {
        this.#inTransaction = true;
        this.#xid = xid;
        this.#committedAt = Number((micros + POSTGRES_EPOCH_MICROS) / 1000n);
      },
      insert: (row) => this.#publish(eventOf(row)),
      message: (name, content) => {
        if (name !== prefix) return;
        const event = JSON.parse(content.toString()) as OutboxEvent;
        const feed = this.#feeds.get(event.stream);
        if (!feed || feed.joined) this.#publisher.claim(event, this.#committedAt);
      },
      commit: (end) => {
        this.#inTransaction = false;
        this.#mark(end);
        if (this.#context.options.unsafe?.confirmBeforeAck) this.#replication!.confirmed = end;
      },
    };
  }

  #publish(event: OutboxEvent): void {
    if (this.#context.state.skipped.has(event.id)) return;
    const feed = this.#feeds.get(event.stream);
    if (feed && !feed.joined) feed.take(event, this.#committedAt, this.#xid);
    else this.#publisher.publish(event, this.#committedAt, this.#xid);
    if (this.#publisher.full) this.#replication!.pause();
  }

  #mark(position: bigint): void {
    const index = this.#publisher.next;
    const last = this.#marks.at(-1);
    if (last?.index === index) last.position = position;
    else this.#marks.push({ index, position });
    if (this.#publisher.acked >= index) this.#progress();
  }

  #progress(): void {
    let done = 0;
    while (done < this.#marks.length && this.#marks[done]!.index <= this.#publisher.acked) done++;
    if (done > 0) {
      const { position } = this.#marks[done - 1]!;
      if (this.acknowledged === undefined || position > this.acknowledged) this.acknowledged = position;
      this.#marks.splice(0, done);
    }
    if (this.#publisher.roomy) this.#replication?.resume();
  }

  /**
   * Writes down how far every stream is, then confirms that position to the slot: in this order, so that the WAL after the newest checkpoint is
   * always sent again and a stream that lost its tail after it misses nothing.
   */
  async #checkpoint(): Promise<void> {
    const { options, db, duty } = this.#context;
    if (this.#awaited && this.acknowledged !== undefined && this.acknowledged >= this.#awaited.lsn) {
      this.#horizon = this.#awaited.horizon;
      this.#awaited = undefined;
    }
    if (!this.#awaited) {
      const { horizon, lsn } = await readHorizon(db);
      this.#awaited = { horizon, lsn: parseLsn(lsn) };
    }
    // All are taken in one go: nothing is acknowledged, and nothing refused, between them.
    const position = this.acknowledged;
    const owing = [...this.#feeds.values()].filter((feed) => !feed.settledBy(this.#publisher.acked));
    const settled = [...this.#feeds.values()].filter((feed) => feed.settledBy(this.#publisher.acked));
    const streams = [...this.#streams.values()]
      .filter(({ stream }) => !owing.some((feed) => feed.stream === stream))
      .map((known) => this.#position(known));
    const horizon = this.#horizon;
    if (position === undefined || horizon === undefined) return;
    const unnoted = owing.filter((feed) => !feed.noted).map(({ stream }) => stream);
    if (unnoted.length > 0) {
      await noteOwed(db, options.slot, unnoted);
      for (const feed of owing) feed.noted = true;
    }
    for (const known of streams) await this.#compare(known);
    const proven = streams.filter(({ stream }) => !duty.owes(stream));
    const content = proven.map(({ stream, sequence }) => `${stream}:${sequence}`).join();
    const moved = content !== this.#written;
    if (moved && proven.length > 0) {
      const place = { systemId: this.#systemId, horizon, lsn: formatLsn(position) };
      await writeCheckpoints(db, options.slot, place, proven);
      for (const { stream } of proven) this.#streams.get(stream)!.horizon = horizon;
      this.#written = content;
    }
    const done = settled.filter(({ stream }) => !duty.owes(stream));
    if (done.length > 0) {
      // Refused again from here on, it has to be noted again.
      for (const feed of done) feed.noted = false;
      await settleOwed(
        db,
        options.slot,
        done.map(({ stream }) => stream),
      );
      for (const feed of done) if (feed.joined) this.#feeds.delete(feed.stream);
    }
    await this.#forgetSeen();
    const replication = this.#replication!;
    if (position > replication.confirmed) replication.confirmed = position;
    replication.flush();
    if (performance.now() - this.#thinnedAt > THIN_EVERY_MS) {
      this.#thinnedAt = performance.now();
      await thinCheckpoints(db, options.slot, (options.retentionDays ?? 3) + 1);
    }
  }

  /** What is known of a stream, with what this session stored in it. */
  #position(known: KnownStream): KnownStream {
    const stored = this.#publisher.stored(known.stream);
    // A duplicate is acknowledged with the sequence it has had all along, which may be an old one.
    return stored && stored.sequence > known.sequence ? { ...known, ...stored } : known;
  }

  /** @throws StreamChangedError if the stream is another one than it was, or shorter */
  async #compare({ stream, incarnation, sequence }: KnownStream): Promise<void> {
    const now = await streamState(this.#nc, stream, this.#context.options.ackTimeoutMs ?? 5_000);
    if (now.incarnation !== incarnation) throw new StreamChangedError(`stream ${stream} was made anew`);
    if (now.lastSequence < sequence) throw new StreamChangedError(`stream ${stream} went back to ${now.lastSequence}`);
  }

  /** The next round sees what can be seen now; of what was dropped only the rest has to be remembered. */
  async #forgetSeen(): Promise<void> {
    const feeds = [...this.#feeds.values()].filter((feed) => feed.dropped.size > 0);
    if (feeds.length === 0) return;
    const { rows } = await this.#context.db.query("SELECT pg_current_snapshot()::text AS snapshot");
    const now = new Snapshot(rows[0].snapshot);
    for (const { dropped } of feeds) for (const xid of dropped) if (now.sees(xid)) dropped.delete(xid);
  }

  get #heartbeatPrefix(): string {
    return `outbox:${this.#context.options.slot}`;
  }

  /**
   * The clock is read first, the events are written by a later transaction: whatever committed before the reading lies before them in the WAL.
   * They are logical messages rather than rows: in commit order like rows, but nothing to keep, since a newer one always follows.
   */
  async #heartbeat(): Promise<void> {
    const { options, db } = this.#context;
    const clock = await db.query(
      `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at`,
    );
    const events = options.heartbeat!.build(clock.rows[0].at);
    if (events.length === 0 || this.#outcome.settled) return;
    await db.query("SELECT pg_logical_emit_message(true, $1, content) FROM unnest($2::text[]) AS content", [
      this.#heartbeatPrefix,
      events.map((event) => JSON.stringify(event)),
    ]);
  }

  /** After an abort: gives what is in flight a moment, and records how far it got. */
  async #finish(): Promise<void> {
    this.#replication?.pause();
    await Promise.race([this.#publisher.drained(), pause(2_000)]).catch(() => {});
    await this.#checkpoint().catch(() => {});
  }
}

/** What is known of a stream, and the horizon of its newest checkpoint. */
interface KnownStream extends StreamPosition {
  horizon: string;
}

function eventOf(row: Row): OutboxEvent {
  const headers = row("headers");
  return {
    id: row("event_id")!,
    stream: row("stream")!,
    subject: row("subject")!,
    msgId: row("msg_id") ?? undefined,
    key: row("key")!,
    headers: headers ? JSON.parse(headers) : undefined,
    payload: row("payload")!,
  };
}
