import type { NatsConnection } from "nats";
import { Applier } from "./applier.ts";
import { backoff, pause } from "./backoff.ts";
import { connectForEver } from "./connection.ts";
import { type ConsumerSpec, ensureConsumer, type Incarnation } from "./consumer.ts";
import { JetStreamFailure, reasonOf } from "./errors.ts";
import { ackFloor, streamInfo } from "./jsapi.ts";
import { Session, type SessionEvents } from "./session.ts";
import type { Logger, Position, Projector, ProjectorOptions, ProjectorState, ProjectorStatus } from "./types.ts";

const DEAD_LETTERS_EVERY_MS = 15_000;
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * A projector keeps a store in step with a JetStream stream: durable pull consumer, batches, acknowledgement only after the store has it, poison parked,
 * watermarks from heartbeats. It survives everything it can outlast (broker, store, consumer or stream gone) by waiting. See README.md.
 */
export function createProjector<T>(options: ProjectorOptions<T>): Projector {
  return new StreamProjector(options);
}

class StreamProjector<T> implements Projector {
  readonly #options: ProjectorOptions<T>;
  readonly #logger: Logger;
  readonly #spec: ConsumerSpec;
  readonly #applier: Applier<T>;
  readonly #asOf = new Map<string, Date>();
  readonly #counts = { batches: 0, events: 0, stale: 0, retried: 0, dead: 0, redelivered: 0 };
  #nc: NatsConnection | undefined;
  #running = false;
  #phase: "stopped" | "connecting" | "running" = "stopped";
  #waiting: { what: string; reason?: string | undefined } | null = null;
  #storeTrouble: string | null = null;
  #lag: number | null = null;
  #deadLetters: number | null = null;
  #floor: Position | null = null;

  constructor(options: ProjectorOptions<T>) {
    this.#options = options;
    this.#logger = options.logger ?? quiet;
    this.#spec = {
      stream: options.stream,
      consumer: options.consumer,
      ackWaitMs: options.ackWaitMs ?? 10_000,
      maxAckPending: options.maxAckPending ?? 10_000,
    };
    this.#applier = new Applier<T>({
      apply: options.apply.bind(options),
      probe: options.probe?.bind(options),
      logger: this.#logger,
      onTrouble: (reason) => {
        this.#storeTrouble = reason;
      },
    });
  }

  async run(signal: AbortSignal): Promise<void> {
    if (this.#running) throw new Error("this projector is already running");
    this.#running = true;
    try {
      while (!signal.aborted) {
        this.#phase = "connecting";
        const nc = await connectForEver(this.#options.nats, signal, this.#logger);
        if (!nc) break;
        this.#nc = nc;
        const counting = setInterval(() => void this.#countDeadLetters(nc), DEAD_LETTERS_EVERY_MS);
        try {
          await this.#work(nc, signal);
        } finally {
          clearInterval(counting);
          this.#nc = undefined;
          await nc.close().catch(() => {});
        }
      }
    } finally {
      this.#phase = "stopped";
      this.#waiting = null;
      this.#running = false;
    }
  }

  /** Session after session on one connection. */
  async #work(nc: NatsConnection, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted && !nc.isClosed(); ) {
      const incarnation = await this.#ensure(nc, signal);
      if (!incarnation) return;
      this.#phase = "running";
      void this.#countDeadLetters(nc);
      const started = performance.now();
      try {
        await new Session(
          this.#options,
          nc,
          this.#spec,
          incarnation,
          this.#applier,
          this.#events(),
          this.#logger,
          signal,
        ).run();
      } catch (error) {
        // Only a defect of a hook or of this package gets here. Nothing unfinished was acknowledged.
        this.#logger.error({ error: reasonOf(error) }, "projector failed; starting over");
        failures = performance.now() - started > 60_000 ? 0 : failures + 1;
        await pause(backoff(failures), signal);
      }
    }
  }

  /** Waits quietly until stream and consumer exist. */
  async #ensure(nc: NatsConnection, signal: AbortSignal): Promise<Incarnation | undefined> {
    for (let attempt = 0; !signal.aborted && !nc.isClosed(); attempt++) {
      try {
        const incarnation = await ensureConsumer(nc, this.#spec);
        this.#waiting = null;
        return incarnation;
      } catch (error) {
        const noStream = error instanceof JetStreamFailure && error.status === 404;
        this.#waiting = { what: noStream ? "the stream" : "the broker", reason: String(error) };
        if (attempt === 0) {
          const { stream, consumer } = this.#spec;
          this.#logger.info({ stream, consumer, error: String(error) }, "waiting for the stream");
        }
        await pause(backoff(attempt, 100, 1_000), signal);
      }
    }
    return undefined;
  }

  #events(): SessionEvents {
    const metrics = this.#options.metrics ?? {};
    return {
      settled: ({ n, ms, stale, retried, dead }) => {
        this.#counts.batches++;
        this.#counts.events += n;
        this.#counts.stale += stale;
        this.#counts.retried += retried;
        this.#counts.dead += dead;
        if (this.#deadLetters !== null) this.#deadLetters += dead;
        if (n > 0) metrics.batch?.(n, ms);
        if (stale > 0) metrics.stale?.(stale);
        if (retried > 0) metrics.retry?.(retried);
        if (dead > 0) metrics.dead?.(dead);
      },
      redelivered: () => {
        this.#counts.redelivered++;
        metrics.redelivered?.();
      },
      waiting: (what, reason) => {
        this.#waiting = what === null ? null : { what, reason };
      },
      info: (info, { streamCreated }) => {
        this.#lag = info.num_pending + info.num_ack_pending;
        this.#floor = { seq: info.ack_floor.stream_seq, stream: streamCreated };
        metrics.lag?.(this.#lag);
        metrics.consumer?.({ pending: info.num_pending, ackPending: info.num_ack_pending });
      },
      watermark: (source, at) => {
        const known = this.#asOf.get(source);
        if (!known || at > known) this.#asOf.set(source, at);
        metrics.staleness?.(source, Math.max(0, Date.now() - at.getTime()) / 1_000);
      },
    };
  }

  async #countDeadLetters(nc: NatsConnection): Promise<void> {
    const { deadLetter, consumer } = this.#options;
    try {
      const { state } = await streamInfo(nc, deadLetter?.stream ?? "DEAD", `dead.${consumer}.>`);
      this.#deadLetters = Object.values(state.subjects ?? {}).reduce((sum, n) => sum + n, 0);
    } catch {
      // Not there yet, or not allowed: unknown.
    }
  }

  status(): ProjectorStatus {
    const times = [...this.#asOf.values()].map((at) => at.getTime());
    const waiting = this.#waiting ? (`waiting for ${this.#waiting.what}` as ProjectorState) : null;
    const state = this.#phase === "running" && this.#storeTrouble !== null ? "waiting for the store" : this.#phase;
    return {
      state: this.#phase === "stopped" ? "stopped" : (waiting ?? state),
      asOf: Object.fromEntries([...this.#asOf].map(([source, at]) => [source, at.toISOString()])),
      stalenessSeconds: times.length > 0 ? Math.max(0, Date.now() - Math.min(...times)) / 1_000 : null,
      lag: this.#lag,
      deadLetters: this.#deadLetters,
      ackFloor: this.#floor,
      counts: { ...this.#counts },
      trouble: this.#waiting?.reason ?? this.#storeTrouble,
    };
  }

  async ackFloor(): Promise<Position | null> {
    if (!this.#nc || this.#nc.isClosed()) return null;
    return ackFloor(this.#nc, this.#spec.stream, this.#spec.consumer).catch(() => null);
  }
}
