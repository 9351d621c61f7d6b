import { setTimeout as sleep } from "node:timers/promises";
import type { NatsConnection, Subscription } from "nats";
import { connectForEver } from "./connection.ts";
import { consumerInfo, streamInfo } from "./jsapi.ts";
import type { Logger, NatsSource } from "./types.ts";

/** Thrown by `Broker.require` while there is no connection. */
export class BrokerUnavailable extends Error {
  override name = "BrokerUnavailable";
}

/**
 * One lasting connection for whatever a service asks of NATS beside its projector and relay: publishing, purging, looking. It is made in the background,
 * comes back by itself, and says at once when it is away, so that a request need not find out by waiting.
 */
export class Broker {
  readonly #stopped = new AbortController();
  readonly #listeners: (() => void)[] = [];
  #connection: NatsConnection | undefined;
  #up = false;

  constructor(source: NatsSource, logger: Logger) {
    void this.#keep(source, logger);
  }

  /** Whether the connection stands, as far as is known: a frozen server shows only after the pings it missed. */
  get up(): boolean {
    return this.#up;
  }

  /** Whether the server answers a ping within `timeoutMs`: a frozen one is found out at once. Never throws. */
  async answers(timeoutMs = 700): Promise<boolean> {
    if (!this.#up || !this.#connection) return false;
    const answer = this.#connection.rtt().then(
      () => true,
      () => false,
    );
    const late = new AbortController();
    const silence = sleep(timeoutMs, false, { signal: late.signal }).catch(() => false);
    try {
      return await Promise.race([answer, silence]);
    } finally {
      late.abort();
    }
  }

  /** Calls `listener` at every connection; at once if there is one. */
  onConnect(listener: () => void): void {
    this.#listeners.push(listener);
    if (this.#up) listener();
  }

  /** The connection. Throws BrokerUnavailable while there is none. */
  require(): NatsConnection {
    if (!this.#connection || !this.#up) throw new BrokerUnavailable("there is no connection to NATS");
    return this.#connection;
  }

  /** Says something to whoever listens at this moment, on no stream. While there is no connection it is dropped, and nobody hears of that. */
  say(subject: string, text: string): void {
    try {
      if (this.#up) this.#connection?.publish(subject, text);
    } catch {
      // Closed a moment ago: the same as away.
    }
  }

  /** Calls `listener` with what is said on a subject, for as long as this lives; what is said while there is no connection is missed. It must not throw. */
  hear(subject: string, listener: (text: string) => void): void {
    let subscription: Subscription | undefined;
    this.onConnect(() => {
      // It comes back by itself with its connection, but not on another one, nor once the server refused it, whose rights may have been mended since.
      if (subscription && !subscription.isClosed()) return;
      try {
        subscription = this.#connection?.subscribe(subject, {
          callback: (refused, message) => {
            if (!refused) listener(message.string());
          },
        });
      } catch {
        // Closed a moment ago: the next connection brings it.
      }
    });
  }

  async close(): Promise<void> {
    this.#stopped.abort();
    await this.#connection?.close();
  }

  async #keep(source: NatsSource, logger: Logger): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      const connection = await connectForEver(source, this.#stopped.signal, logger);
      if (!connection) return;
      this.#connection = connection;
      this.#connected();
      for await (const { type } of connection.status()) {
        if (type === "disconnect" || type === "staleConnection") this.#up = false;
        else if (type === "reconnect") this.#connected();
      }
      this.#up = false;
    }
  }

  #connected(): void {
    this.#up = true;
    for (const listener of this.#listeners) listener();
  }
}

export interface ConsumerState {
  /** Messages not delivered plus those delivered and not acknowledged, over all replicas. */
  lag: number;
  /** Everything up to here is acknowledged. */
  ackFloor: number;
  /**
   * Everything up to here is settled, of all that the server has offered so far: the floor, or if nothing waits and nothing is under way the last
   * delivered message. Not the stream's last one: the server acknowledges a publish before it offers the message.
   */
  settled: number;
  /** Letters of this consumer on the dead-letter stream. */
  deadLetters: number;
  /** When the stream was created (RFC 3339): its incarnation. */
  streamCreated: string;
}

/** How far a durable consumer is, for a process that does not project itself. Throws JetStreamFailure (404: no such stream or consumer). */
export async function inspectConsumer(
  nc: NatsConnection,
  stream: string,
  consumer: string,
  dead = { stream: "DEAD", prefix: "dead" },
): Promise<ConsumerState> {
  // The stream first: if it is made anew in between, the floor is that of a young stream, so rather too low than too high.
  const { created } = await streamInfo(nc, stream);
  const [info, letters] = await Promise.all([
    consumerInfo(nc, stream, consumer),
    streamInfo(nc, dead.stream, `${dead.prefix}.${consumer}.>`),
  ]);
  const lag = info.num_pending + info.num_ack_pending;
  return {
    lag,
    ackFloor: info.ack_floor.stream_seq,
    settled: lag === 0 ? Math.max(info.ack_floor.stream_seq, info.delivered.stream_seq) : info.ack_floor.stream_seq,
    deadLetters: Object.values(letters.state.subjects ?? {}).reduce((sum, n) => sum + n, 0),
    streamCreated: created,
  };
}
