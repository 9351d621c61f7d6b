import type { NatsConnection } from "nats";
import { BrokerError, StoreError, StreamChangedError } from "../errors.ts";
import { connectNats, type StreamState, streamState } from "../jetstream.ts";
import { every, Outcome, pause } from "../loop.ts";
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
import { PgOutputDecoder, type PgOutputHandler, POSTGRES_EPOCH_MICROS, type Row } from "./pgoutput.ts";
import type { PostgresRelayContext } from "./relay.ts";
import { ReplicationConnection } from "./replication.ts";
import { type Resend, retainedRows } from "./resend.ts";
import { formatLsn, parseLsn, readRelayRow, readSlot, recreateSlot, settleDebt } from "./slot.ts";

const THIN_EVERY_MS = 60_000;

/**
 * One attempt at relaying, from connecting to the first thing that goes wrong: connect to NATS, get the slot, compare every stream with the
 * checkpoints, send again what a stream lacks, then follow the WAL. Nothing survives it but what the database remembers.
 */
export class PostgresSession {
  /** Everything that committed before this position is acknowledged. */
  acknowledged: bigint | undefined;
  readonly #context: PostgresRelayContext;
  #outcome!: Outcome;
  #nc!: NatsConnection;
  #replication!: ReplicationConnection;
  #publisher!: Publisher;
  /** What is known of each stream beside what this session published. */
  readonly #streams = new Map<string, StreamPosition>();
  /** Positions that may be confirmed once every publish below the index is acknowledged. */
  readonly #marks: { index: number; position: bigint }[] = [];
  /** Where the slot stood when this session looked; it cannot have moved back since. */
  #confirmedBefore = 0n;
  #inTransaction = false;
  #committedAt = 0;
  /** A horizon that becomes true once `lsn` is acknowledged. */
  #awaited: { horizon: string; lsn: bigint } | undefined;
  #horizon: string | undefined;
  #written: string | undefined;
  #debt = false;
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
      const replication = await this.#takeSlot();
      if (!replication) return;
      this.#replication = replication;
      state.active = true;
      state.logger.info({ slot: options.slot }, "relay has the slot");
      const resends = await this.#verify();
      if (resends.length > 0) await this.#resend(resends);
      // Nothing before the confirmed position is missing any more: that is worth a checkpoint of its own.
      this.acknowledged = this.#confirmedBefore;
      if (resends.length > 0) await this.#checkpoint();
      this.#replication.open();

      stops.push(
        every(
          options.checkpointMs ?? 1_000,
          () => this.#checkpoint(),
          (error) => this.#outcome.fail(error),
        ),
      );
      if (options.heartbeat) {
        const debug = (error: unknown) => state.logger.debug({ err: error }, "heartbeat failed");
        stops.push(every(options.heartbeat.everyMs, () => this.#heartbeat(), debug));
      }
      await this.#outcome.promise;
      for (const stop of stops.splice(0)) stop();
      await this.#finish();
    } finally {
      for (const stop of stops) stop();
      state.active = false;
      this.#outcome.end();
      this.#publisher?.close();
      this.#replication?.close();
      await this.#nc?.close().catch(() => {});
    }
  }

  /** Waits until the slot is free, makes it if it is missing or lost. Returns undefined if the session was ended meanwhile. */
  async #takeSlot(): Promise<ReplicationConnection | undefined> {
    const { options, state, db } = this.#context;
    while (!this.#outcome.settled) {
      const slot = await readSlot(db, options.slot).catch((error) => {
        throw new StoreError(`PostgreSQL cannot be asked for the slot: ${error.message}`, { cause: error });
      });
      if (!slot || slot.invalidated) {
        const why = slot ? `invalidated: ${slot.invalidated}` : "missing";
        state.logger.warn({ slot: options.slot, why }, "replication slot is made anew, the gap is sent from the table");
        if (await recreateSlot(db, options.slot)) continue;
      } else if (!slot.active) {
        const replication = await this.#startReplication();
        this.#confirmedBefore = slot.confirmed;
        if (replication) return replication;
      }
      await Promise.race([pause(options.standbyPollMs ?? 500), this.#outcome.promise]);
    }
    await this.#outcome.promise;
    return undefined;
  }

  /** Undefined if another replica was quicker. */
  async #startReplication(): Promise<ReplicationConnection | undefined> {
    const { connectionString, slot, publication, walSenderTimeoutMs = 10_000 } = this.#context.options;
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

  /** Compares every stream with its checkpoints. Returns what has to be sent again from the table. */
  async #verify(): Promise<Resend[]> {
    const { options, state, db, duty } = this.#context;
    const { resendFrom, droppedUntil } = await readRelayRow(db, options.slot);
    const gone = (from: string) => droppedUntil !== null && BigInt(from) <= BigInt(droppedUntil);
    this.#debt = resendFrom !== null;
    const states: Record<string, StreamState> = {};
    const resends: Resend[] = [];
    for (const stream of Object.keys(options.streams)) {
      const history = await readCheckpoints(db, options.slot, stream, this.#replication.systemId);
      const { state: now, verdict } = await verifyStream(this.#nc, stream, history);
      states[stream] = now;
      const last = "checkpoint" in verdict ? verdict.checkpoint : undefined;
      const { sequence = 0, eventId = null, digest = null } = last ?? {};
      this.#streams.set(stream, { stream, incarnation: now.incarnation, sequence, eventId, digest });

      const from = verdict.kind === "holds" ? resendFrom : (last?.position.horizon ?? "0");
      if (verdict.kind === "behind" || verdict.kind === "lost") {
        state.logger.error(
          { stream, verdict: verdict.kind, reason: verdict.reason },
          "stream lacks what it acknowledged",
        );
        await refuteCheckpoints(db, options.slot, stream, last);
      }
      if (verdict.kind === "lost") duty.owe(stream, verdict.reason, droppedUntil === null);
      else if (from !== null && history.known && gone(from))
        duty.owe(stream, "what it lacks is older than the retention", false);
      if (from !== null)
        resends.push({ stream, from: resendFrom && BigInt(resendFrom) < BigInt(from) ? resendFrom : from });
      // Until a newer one is true, every checkpoint of this session has the oldest horizon that any stream can rely on.
      const horizon = from === null ? last!.position.horizon : (resends.at(-1)?.from ?? "0");
      if (this.#horizon === undefined || BigInt(horizon) < BigInt(this.#horizon)) this.#horizon = horizon;
    }
    this.#publisher = createPublisher(this.#nc, options, options.nats.inboxPrefix, state, states, {
      onProgress: () => this.#progress(),
      onFailure: (error) => this.#outcome.fail(error),
    });
    return resends;
  }

  async #resend(resends: Resend[]): Promise<void> {
    const { state, db, options } = this.#context;
    let count = 0;
    for await (const rows of retainedRows(db, resends)) {
      for (const { event, at } of rows) {
        if (this.#outcome.settled) return await this.#outcome.promise;
        if (this.#publisher.full) await this.#publisher.room();
        if (state.skipped.has(event.id)) continue;
        this.#publisher.publish(event, at);
        options.metrics?.resent?.(event.stream);
        state.resent++;
        count++;
      }
    }
    await this.#publisher.drained();
    if (count > 0) state.logger.warn({ count, resends }, "sent retained events again");
  }

  #handler(): PgOutputHandler {
    const prefix = this.#heartbeatPrefix;
    return {
      begin: (micros) => {
        this.#inTransaction = true;
        this.#committedAt = Number((micros + POSTGRES_EPOCH_MICROS) / 1000n);
      },
      insert: (row) => this.#publish(eventOf(row)),
      message: (name, content) => {
        if (name === prefix) this.#publish(JSON.parse(content.toString()) as OutboxEvent);
      },
      commit: (end) => {
        this.#inTransaction = false;
        this.#mark(end);
        if (this.#context.options.unsafe?.confirmBeforeAck) this.#replication.confirmed = end;
      },
    };
  }

  #publish(event: OutboxEvent): void {
    if (this.#context.state.skipped.has(event.id)) return;
    this.#publisher.publish(event, this.#committedAt);
    if (this.#publisher.full) this.#replication.pause();
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
    if (this.#publisher.roomy) this.#replication.resume();
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
    // Both are taken in one go: nothing is acknowledged between the two.
    const position = this.acknowledged;
    const streams = [...this.#streams.values()].map((known) => {
      const stored = this.#publisher.stored(known.stream);
      // A duplicate is acknowledged with the sequence it has had all along, which may be an old one.
      return stored && stored.sequence > known.sequence ? { ...known, ...stored } : known;
    });
    if (position === undefined || this.#horizon === undefined) return;
    for (const { stream, incarnation, sequence } of streams) {
      const now = await streamState(this.#nc, stream, options.ackTimeoutMs ?? 5_000);
      if (now.incarnation !== incarnation) throw new StreamChangedError(`stream ${stream} was made anew`);
      if (now.lastSequence < sequence)
        throw new StreamChangedError(`stream ${stream} went back to ${now.lastSequence}`);
    }
    const proven = streams.filter(({ stream }) => !duty.owes(stream));
    const content = proven.map(({ stream, sequence }) => `${stream}:${sequence}`).join();
    const moved = content !== this.#written;
    if (moved && proven.length > 0) {
      const place = { systemId: this.#replication.systemId, horizon: this.#horizon, lsn: formatLsn(position) };
      await writeCheckpoints(db, options.slot, place, proven);
      this.#written = content;
    }
    if (this.#debt && proven.length === streams.length) {
      await settleDebt(db, options.slot);
      this.#debt = false;
    }
    if (position > this.#replication.confirmed) this.#replication.confirmed = position;
    this.#replication.flush();
    if (performance.now() - this.#thinnedAt > THIN_EVERY_MS) {
      this.#thinnedAt = performance.now();
      await thinCheckpoints(db, options.slot, (options.retentionDays ?? 3) + 1);
    }
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
    this.#replication.pause();
    await Promise.race([this.#publisher.drained(), pause(2_000)]).catch(() => {});
    await this.#checkpoint().catch(() => {});
  }
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
