import type { NatsConnection } from "nats";
import type { Incarnation } from "./consumer.ts";
import type { DeliveryRuns } from "./deliveries.ts";
import { type ConsumerInfo, consumerInfo, streamInfo } from "./jsapi.ts";
import type { Logger, Unsafe, WatermarkContext } from "./types.ts";

/** Observations in a row that a watermark needs while other replicas hold messages (see README, "Several replicas"). */
const SHARED_ROUNDS = 2;
const CHECK_EVERY_MS = 50;
const CHECK_AT_MOST_EVERY_MS = 15;
/** Far behind there is nothing to prove soon. */
const FAR_BEHIND = 200;
const CHECK_FAR_BEHIND_EVERY_MS = 200;

interface Mark {
  at: Date;
  seq: number;
}
type Marks = Map<string, Mark>;

export interface WatermarkOptions {
  nc: NatsConnection;
  stream: string;
  consumer: string;
  incarnation: Incarnation;
  runs: DeliveryRuns;
  /** Lowest consumer sequence in this replica's hands that is not settled, or Infinity. */
  lowestHeld(): number;
  flush(): Promise<void>;
  claim(source: string, at: Date, context: WatermarkContext): Promise<void>;
  /** Every look at the consumer, for lag and floor. */
  onInfo(info: ConsumerInfo): void;
  /** The consumer is not the one we work for, or cannot be asked. */
  onTrouble(reason: string): void;
  logger: Logger;
  unsafe: Unsafe;
}

/**
 * Turns heartbeats into watermarks: decides when the store holds everything that a source committed before a heartbeat.
 *
 * On a stream that forgets nothing, that is when the ack floor has passed the stream's end as it was when the heartbeat had been read.
 *
 * On a compacted stream no position proves it. A state below the heartbeat that is superseded before it is applied vanishes, its successor lies above the
 * heartbeat, perhaps above the remembered end too, and the floor passes over the hole. So the proof is an instant: the server says, after the heartbeat was
 * read, that nothing is undelivered (then the newest message of every subject has been delivered) and that every delivery not covered by the ack floor came
 * to this replica; once this replica has settled them the store holds the newest state of everything, as of that instant.
 *
 * While other replicas hold messages, SHARED_ROUNDS such instants in a row are needed, each after the ack floor has passed all deliveries of the one before.
 */
export class Watermarks {
  readonly #options: WatermarkOptions;
  readonly #newest: Marks = new Map();
  readonly #timer: NodeJS.Timeout;
  /** Proven at the server; to be claimed once this replica's own hands are empty up to there. */
  #awaitingHands: { marks: Marks; upTo: number } | undefined;
  /** Waiting for the floor to reach a stream sequence (streams that forget nothing). */
  #awaitingFloor: { marks: Marks; end: number } | undefined;
  /** Waiting for other replicas' hands. */
  #shared: { marks: Marks; upTo: number; rounds: number } | undefined;
  #floor = 0;
  #checking = false;
  #again = false;
  #lastCheck = 0;
  #interval = CHECK_AT_MOST_EVERY_MS;
  #stopped = false;

  constructor(options: WatermarkOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.poke(), CHECK_EVERY_MS);
  }

  /** A heartbeat was read. Only the newest of a source matters. */
  heartbeat(source: string, at: Date, seq: number): void {
    const known = this.#newest.get(source);
    if (!known || at > known.at) this.#newest.set(source, { at, seq });
  }

  /** Something changed: look, now or very soon. */
  poke(): void {
    if (this.#stopped || (this.#newest.size === 0 && !this.#waiting)) return;
    if (this.#checking) {
      this.#again = true;
      return;
    }
    if (performance.now() - this.#lastCheck < this.#interval) return;
    this.#checking = true;
    this.#check()
      .catch((error: unknown) => this.#options.logger.debug({ error: String(error) }, "watermark not moved"))
      .finally(() => {
        this.#checking = false;
        this.#lastCheck = performance.now();
        if (this.#again) setTimeout(() => this.poke(), CHECK_AT_MOST_EVERY_MS).unref();
        this.#again = false;
      });
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
  }

  get #waiting(): boolean {
    return Boolean(this.#awaitingHands ?? this.#awaitingFloor ?? this.#shared);
  }

  async #check(): Promise<void> {
    const { unsafe, incarnation } = this.#options;
    if (unsafe.naiveWatermark) await this.#byOwnSequence();
    else if (!incarnation.compacted || unsafe.streamEndWatermark) await this.#byStreamEnd();
    else await this.#byInstant();
  }

  async #byInstant(): Promise<void> {
    if (!this.#awaitingHands) await this.#observe();
    const proven = this.#awaitingHands;
    if (!proven || this.#options.lowestHeld() <= proven.upTo) return;
    await this.#claim(proven.marks);
    this.#awaitingHands = undefined;
  }

  async #observe(): Promise<void> {
    const { nc, stream, runs } = this.#options;
    const marks = new Map(this.#newest);
    if (marks.size === 0) return;
    // The end first: num_pending is counted a moment after the stream has stored (and compacted), so by itself it may say 0 too early.
    const end = (await streamInfo(nc, stream)).state.last_seq;
    const info = await this.#look();
    if (!info || info.num_pending > 0 || info.delivered.stream_seq < end) return;
    const delivered = info.delivered.consumer_seq;
    const floor = info.ack_floor.consumer_seq;
    if (runs.covers(floor, delivered)) {
      this.#shared = undefined;
      this.#awaitingHands = { marks, upTo: delivered };
    } else if (!this.#shared) {
      this.#shared = { marks, upTo: delivered, rounds: 0 };
    } else if (floor >= this.#shared.upTo) {
      this.#shared.upTo = delivered;
      if (++this.#shared.rounds < SHARED_ROUNDS) return;
      this.#awaitingHands = { marks: this.#shared.marks, upTo: delivered };
      this.#shared = undefined;
    }
  }

  async #byStreamEnd(): Promise<void> {
    const { nc, stream } = this.#options;
    if (!this.#awaitingFloor) {
      const marks = new Map(this.#newest);
      if (marks.size === 0) return;
      this.#awaitingFloor = { marks, end: (await streamInfo(nc, stream)).state.last_seq };
    }
    const info = await this.#look();
    if (!info) return;
    const idle =
      info.num_pending === 0 && info.num_ack_pending === 0 && info.delivered.stream_seq >= this.#awaitingFloor.end;
    if (info.ack_floor.stream_seq < this.#awaitingFloor.end && !idle) return;
    await this.#claim(this.#awaitingFloor.marks);
    this.#awaitingFloor = undefined;
  }

  async #byOwnSequence(): Promise<void> {
    const info = await this.#look();
    if (!info) return;
    await this.#claim(new Map([...this.#newest].filter(([, mark]) => info.ack_floor.stream_seq >= mark.seq)));
  }

  async #look(): Promise<ConsumerInfo | undefined> {
    const { nc, stream, consumer, incarnation, runs, onInfo, onTrouble } = this.#options;
    const info = await consumerInfo(nc, stream, consumer).catch((error: unknown) => {
      onTrouble(String(error));
      throw error;
    });
    if (info.created !== incarnation.consumerCreated) {
      onTrouble("the consumer was made anew");
      return undefined;
    }
    this.#floor = info.ack_floor.stream_seq;
    this.#interval = info.num_pending > FAR_BEHIND ? CHECK_FAR_BEHIND_EVERY_MS : CHECK_AT_MOST_EVERY_MS;
    runs.forget(info.ack_floor.consumer_seq);
    onInfo(info);
    return info;
  }

  async #claim(marks: Marks): Promise<void> {
    const { flush, claim, stream, consumer, incarnation } = this.#options;
    if (marks.size === 0 || this.#stopped) return;
    await flush();
    for (const [source, mark] of marks) {
      await claim(source, mark.at, {
        stream,
        consumer,
        streamCreated: incarnation.streamCreated,
        ackFloor: this.#floor,
      });
      if (this.#newest.get(source) === mark) this.#newest.delete(source);
    }
  }

  /** Looks at the consumer for its own sake. */
  async refresh(): Promise<void> {
    await this.#look();
  }
}
