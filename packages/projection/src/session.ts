import type { NatsConnection } from "nats";
import type { Applier, Settled } from "./applier.ts";
import { backoff, pause } from "./backoff.ts";
import { type ConsumerSpec, ensureConsumer, type Incarnation, isIntact } from "./consumer.ts";
import { DeliveryRuns } from "./deliveries.ts";
import { Acknowledger, type Delivery } from "./delivery.ts";
import { JetStreamFailure, reasonOf, Stopped } from "./errors.ts";
import { readHeartbeat } from "./heartbeat.ts";
import type { ConsumerInfo } from "./jsapi.ts";
import { park } from "./parking.ts";
import { Puller } from "./puller.ts";
import type { Item, Logger, ProjectorOptions } from "./types.ts";
import { Watermarks } from "./watermark.ts";

const REFRESH_MS = 2_000;
/** Longest wait before an item with verdict `retry` comes again. */
const RETRY_MOST_MS = 30_000;
const MIB = 1_048_576;

/** What the session tells the projector. */
export interface SessionEvents {
  settled(batch: { n: number; ms: number; applied: number; stale: number; retried: number; dead: number }): void;
  redelivered(): void;
  waiting(what: "the stream" | "the broker" | "the store" | null, reason?: string): void;
  info(info: ConsumerInfo, incarnation: Incarnation): void;
  watermark(source: string, at: Date): void;
}

/** A batch, sorted. */
interface Bins<T> {
  items: Item<T>[];
  dead: { delivery: Delivery; reason: string }[];
  beats: { delivery: Delivery; source: string; at: Date }[];
}

/**
 * The life of a projector on one incarnation of its consumer: from `ensureConsumer` until that consumer is gone, the connection closed, or the signal
 * aborted. Everything that names a bare sequence (buffer, acknowledgements, watermark proofs) lives and dies with it.
 */
export class Session<T> {
  readonly #options: ProjectorOptions<T>;
  readonly #nc: NatsConnection;
  readonly #spec: ConsumerSpec;
  readonly #incarnation: Incarnation;
  readonly #events: SessionEvents;
  readonly #logger: Logger;
  readonly #acks: Acknowledger;
  readonly #runs = new DeliveryRuns();
  readonly #puller: Puller;
  readonly #watermarks: Watermarks;
  readonly #applier: Applier<T>;
  readonly #inHand = new Map<Item<T>, Delivery>();
  /** Heartbeats and dead letters of the batch in hand. */
  readonly #aside = new Set<Delivery>();
  readonly #stop: AbortSignal;
  /** Aborts what waits when this incarnation is over, or when the stop's grace has run out. */
  readonly #over = new AbortController();
  /** Aborts even a call of `apply` that does not come back: when the grace has run out. */
  readonly #giveUp = new AbortController();
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #max: number;
  readonly #maxBytes: number;
  /** The highest number the consumer has given a delivery here. */
  #counted = 0;
  /** In hand under numbers that the consumer gives out again, since it was put back by a crash. */
  readonly #numberedAnew = new Set<Delivery>();
  #gone = false;
  #recovering = false;
  #recovered = Number.NEGATIVE_INFINITY;

  constructor(
    options: ProjectorOptions<T>,
    nc: NatsConnection,
    spec: ConsumerSpec,
    incarnation: Incarnation,
    applier: Applier<T>,
    events: SessionEvents,
    logger: Logger,
    stop: AbortSignal,
  ) {
    this.#options = options;
    this.#nc = nc;
    this.#spec = spec;
    this.#incarnation = incarnation;
    this.#events = events;
    this.#logger = logger;
    this.#stop = stop;
    this.#max = options.batch?.max ?? 2_000;
    this.#maxBytes = options.batch?.maxBytes ?? 8 * MIB;
    this.#applier = applier;
    this.#acks = new Acknowledger(nc);
    this.#puller = new Puller({
      nc,
      stream: spec.stream,
      consumer: spec.consumer,
      maxMessages: this.#max,
      maxBytes: this.#maxBytes,
      onTrouble: (reason) => void this.#recover(reason),
      onDelivery: (delivery) => this.#received(delivery),
    });
    this.#watermarks = new Watermarks({
      nc,
      stream: spec.stream,
      consumer: spec.consumer,
      incarnation,
      runs: this.#runs,
      lowestHeld: () => this.#lowestHeld(),
      flush: async () => options.flush?.(),
      claim: async (source, at, context) => {
        await options.heartbeat?.onWatermark(source, at, context);
        events.watermark(source, at);
      },
      onInfo: (info) => events.info(info, incarnation),
      onTrouble: (reason) => void this.#recover(reason),
      logger,
      unsafe: options.unsafe ?? {},
    });
  }

  /** Resolves when this incarnation is over or the work is handed over after a stop. */
  async run(): Promise<void> {
    const wake = () => this.#puller.poke();
    this.#stop.addEventListener("abort", wake, { once: true });
    this.#timers.push(setInterval(() => this.#keepAlive(), this.#spec.ackWaitMs / 6));
    this.#timers.push(setInterval(() => void this.#watermarks.refresh().catch(() => {}), REFRESH_MS));
    void this.#watermarks.refresh().catch(() => {});
    void this.#watchConnection();
    try {
      while (!this.#gone && !this.#stop.aborted) {
        await this.#puller.ready();
        if (this.#gone || this.#stop.aborted) break;
        await this.#work();
      }
    } finally {
      this.#stop.removeEventListener("abort", wake);
      await this.#handOver();
    }
  }

  async #work(): Promise<void> {
    const started = performance.now();
    const bins = this.#take();
    const counts = { n: bins.items.length, ms: 0, applied: 0, stale: 0, retried: 0, dead: 0 };
    const endGrace = this.#startGraceOnStop();
    try {
      if (bins.items.length > 0) {
        const settled = await this.#applier.settle(bins.items, () => this.#takeMore(bins), {
          wait: this.#over.signal,
          call: this.#giveUp.signal,
        });
        counts.n = settled.length;
        for (const one of settled) await this.#settle(one, counts);
        const had = settled.filter(({ verdict }) => verdict === "applied" || verdict === "stale");
        this.#options.metrics?.has?.(had.map(({ item }) => item.subject));
      }
      for (const { delivery, reason } of bins.dead) {
        await this.#park(delivery, undefined, reason);
        counts.dead++;
      }
      for (const { delivery, source, at } of bins.beats) {
        this.#aside.delete(delivery);
        if (!this.#gone) this.#acks.ack(delivery);
        this.#watermarks.heartbeat(source, at, delivery.seq);
      }
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
      return;
    } finally {
      endGrace();
    }
    this.#acks.confirm();
    counts.ms = performance.now() - started;
    if (counts.n > 0 || counts.dead > 0) this.#events.settled(counts);
    this.#watermarks.poke();
  }

  #take(): Bins<T> {
    const bins: Bins<T> = { items: [], dead: [], beats: [] };
    for (const delivery of this.#puller.take(this.#max, this.#maxBytes)) this.#sort(delivery, bins);
    return bins;
  }

  /** New items for a batch that is being held; what comes with them is settled with the batch. */
  #takeMore({ dead, beats }: Bins<T>): Item<T>[] {
    const bins: Bins<T> = { items: [], dead, beats };
    const room = this.#max - this.#inHand.size;
    if (room > 0) for (const delivery of this.#puller.take(room, this.#maxBytes)) this.#sort(delivery, bins);
    return bins.items;
  }

  /** Decodes one message and puts it where it belongs. */
  #sort(delivery: Delivery, { items, dead, beats }: Bins<T>): void {
    const { decode, heartbeat } = this.#options;
    try {
      const event = decode(delivery);
      if (heartbeat && delivery.subject.startsWith(heartbeat.subjectPrefix ?? "heartbeat.")) {
        beats.push({ delivery, ...(heartbeat.read ?? readHeartbeat)(event, delivery.subject) });
        this.#aside.add(delivery);
        return;
      }
      const { seq, subject, time, deliveries } = delivery;
      const item: Item<T> = { event, seq, subject, time, deliveries };
      this.#inHand.set(item, delivery);
      items.push(item);
    } catch (error) {
      dead.push({ delivery, reason: `undecodable: ${reasonOf(error)}` });
      this.#aside.add(delivery);
    }
  }

  async #settle(
    { item, verdict }: Settled<T>,
    counts: { applied: number; stale: number; retried: number; dead: number },
  ): Promise<void> {
    const delivery = this.#inHand.get(item)!;
    if (typeof verdict === "object") {
      await this.#park(delivery, item.event, verdict.poison);
      counts.dead++;
    } else if (verdict === "retry") {
      counts.retried++;
      this.#runs.remove(delivery.consumerSeq);
      if (!this.#gone) this.#acks.nak(delivery, backoff(delivery.deliveries, 250, RETRY_MOST_MS));
    } else {
      counts[verdict]++;
      if (!this.#gone) this.#acks.ack(delivery);
    }
    this.#inHand.delete(item);
  }

  async #park(delivery: Delivery, event: T | undefined, reason: string): Promise<void> {
    const { deadLetter, consumer, stream } = this.#options;
    const key = delivery.subject.slice(delivery.subject.lastIndexOf(".") + 1);
    const subject = deadLetter?.subject?.(delivery, event) ?? `dead.${consumer}.${key}`;
    await park({
      nc: this.#nc,
      stream,
      streamCreated: this.#incarnation.streamCreated,
      consumer,
      subject,
      message: delivery,
      reason,
      logger: this.#logger,
      signal: this.#over.signal,
    });
    this.#logger.warn({ seq: delivery.seq, subject: delivery.subject, reason }, "parked a message as dead letter");
    if (!this.#gone) this.#acks.term(delivery);
    this.#aside.delete(delivery);
  }

  #received(delivery: Delivery): void {
    this.#runs.add(delivery.consumerSeq);
    this.#counted = Math.max(this.#counted, delivery.consumerSeq);
    if (this.#options.unsafe?.ackBeforeApply) this.#acks.ack(delivery);
    if (delivery.deliveries > 1) this.#events.redelivered();
  }

  #lowestHeld(): number {
    let lowest = Number.POSITIVE_INFINITY;
    for (const delivery of this.#everything())
      lowest = Math.min(lowest, this.#numberedAnew.has(delivery) ? 0 : delivery.consumerSeq);
    return lowest;
  }

  *#everything(): Iterable<Delivery> {
    yield* this.#inHand.values();
    yield* this.#aside;
    yield* this.#puller.buffered;
  }

  /** Tells the server about everything that has been waiting here for long, so that it is not delivered to somebody else. */
  #keepAlive(): void {
    if (this.#gone || this.#options.unsafe?.ackBeforeApply) return;
    const now = performance.now();
    for (const delivery of this.#everything()) {
      if (now - delivery.touched < this.#spec.ackWaitMs / 3) continue;
      delivery.touched = now;
      this.#acks.working(delivery);
    }
  }

  /** Looks until the consumer is there again. The same one: go on. Another one: this session is over. */
  async #recover(reason: string): Promise<void> {
    if (this.#recovering || this.#gone || this.#stop.aborted) return;
    this.#recovering = true;
    this.#logger.debug({ reason }, "looking after the consumer");
    const patience = AbortSignal.any([this.#stop, this.#over.signal]);
    // A server that keeps saying no is not asked in a tight loop.
    if (performance.now() - this.#recovered < 1_000) await pause(250, patience);
    for (let attempt = 0; !patience.aborted && !this.#nc.isClosed(); attempt++) {
      try {
        const now = await ensureConsumer(this.#nc, this.#spec);
        this.#events.waiting(null);
        if (
          now.consumerCreated !== this.#incarnation.consumerCreated ||
          now.streamCreated !== this.#incarnation.streamCreated
        ) {
          this.#logger.warn({ reason }, "stream or consumer was made anew: reading it from the beginning");
          this.#end();
        } else if (
          !(await isIntact(this.#nc, this.#spec.stream, now.end, [...this.#acks.unconfirmed, ...this.#everything()]))
        ) {
          this.#logger.warn(
            { reason },
            "the stream has lost its end: what is in hand is of sequences that are given out again",
          );
          this.#end();
        } else {
          if (now.delivered < this.#counted) this.#countAnew(now.delivered);
          this.#acks.repeat();
          this.#puller.resume();
        }
        break;
      } catch (error) {
        const noStream = error instanceof JetStreamFailure && error.status === 404;
        this.#events.waiting(noStream ? "the stream" : "the broker", String(error));
        await pause(backoff(attempt, 100, 2_000), patience);
      }
    }
    this.#recovered = performance.now();
    this.#recovering = false;
  }

  /** A server that was killed may have forgotten its last deliveries: it makes them again, to anybody, under the same numbers. */
  #countAnew(delivered: number): void {
    this.#counted = delivered;
    this.#runs.clear();
    this.#numberedAnew.clear();
    for (const delivery of this.#everything()) this.#numberedAnew.add(delivery);
  }

  async #watchConnection(): Promise<void> {
    void this.#nc.closed().then(() => this.#end());
    for await (const event of this.#nc.status()) {
      if (this.#gone) return;
      if (event.type === "disconnect") {
        this.#acks.hold();
        this.#events.waiting("the broker", "disconnected");
      }
      // The open request died with the connection.
      if (event.type === "reconnect") void this.#recover("reconnected");
    }
  }

  #end(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#watermarks.stop();
    this.#over.abort();
    this.#puller.poke();
  }

  /** From a stop on, the batch in hand has a limited time. Returns what takes the limit back. */
  #startGraceOnStop(): () => void {
    let timer: NodeJS.Timeout | undefined;
    const start = () => {
      timer = setTimeout(() => {
        this.#over.abort();
        this.#giveUp.abort();
      }, this.#options.stopGraceMs ?? 10_000);
    };
    if (this.#stop.aborted) start();
    else this.#stop.addEventListener("abort", start, { once: true });
    return () => {
      this.#stop.removeEventListener("abort", start);
      clearTimeout(timer);
    };
  }

  /** Gives back what was not begun or not finished, so that another replica has it at once. */
  async #handOver(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#watermarks.stop();
    if (this.#gone) return this.#puller.abandon();
    this.#acks.confirm();
    await this.#puller.stop();
    this.#gone = true;
    for (const delivery of this.#everything()) this.#acks.nak(delivery);
    await Promise.race([this.#nc.flush().catch(() => {}), pause(2_000)]);
    this.#puller.abandon();
  }
}
