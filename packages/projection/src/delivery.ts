import type { Msg, NatsConnection } from "nats";
import type { RawMessage } from "./types.ts";

/**
 * One delivery of one message, with what its reply subject says:
 * `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<nanoseconds>.<pending>`, newer servers with domain and account before the stream.
 */
export class Delivery implements RawMessage {
  readonly #message: Msg;
  readonly reply: string;
  readonly seq: number;
  /** Counts deliveries of this consumer. */
  readonly consumerSeq: number;
  readonly deliveries: number;
  readonly #millis: number;
  /** When the server last heard that we have it (`performance.now()`). */
  touched: number;

  constructor(message: Msg, now: number) {
    this.#message = message;
    this.reply = message.reply ?? "";
    const tokens = this.reply.split(".");
    const at = tokens.length >= 11 ? 6 : 4;
    this.deliveries = Number(tokens[at]);
    this.seq = Number(tokens[at + 1]);
    this.consumerSeq = Number(tokens[at + 2]);
    this.#millis = Number(tokens[at + 3]!.slice(0, -6));
    this.touched = now;
  }

  get data(): Uint8Array {
    return this.#message.data;
  }
  get subject(): string {
    return this.#message.subject;
  }
  get headers() {
    return this.#message.headers;
  }
  get time(): Date {
    return new Date(this.#millis);
  }
  get size(): number {
    return this.#message.data.length + this.#message.subject.length + 128;
  }
}

export function isDelivery(message: Msg): boolean {
  return message.reply?.startsWith("$JS.ACK.") === true;
}

/**
 * Sends acknowledgements, and sends again those that a broken connection may have swallowed: otherwise each reconnect would cost a redelivery after
 * ack_wait, and hold the watermark back for as long. Valid for one incarnation of the consumer only, because an acknowledgement names a bare sequence.
 */
export class Acknowledger {
  readonly #nc: NatsConnection;
  #unconfirmed: Delivery[] = [];
  #flushing = false;
  /** Nothing is sent: it is not known whether the server still means the same by a sequence. */
  #held = false;

  constructor(nc: NatsConnection) {
    this.#nc = nc;
  }

  ack(delivery: Delivery): void {
    this.#send(delivery.reply, "+ACK");
    this.#unconfirmed.push(delivery);
  }

  /** Never deliver it again although it was not applied. */
  term(delivery: Delivery): void {
    this.#send(delivery.reply, "+TERM");
    this.#unconfirmed.push(delivery);
  }

  /** Give it back: to anybody, at once or after `delayMs`. */
  nak(delivery: Delivery, delayMs = 0): void {
    this.#send(delivery.reply, delayMs > 0 ? `-NAK {"delay": ${Math.round(delayMs) * 1_000_000}}` : "-NAK");
  }

  /** Still at it. */
  working(delivery: Delivery): void {
    this.#send(delivery.reply, "+WPI");
  }

  /** From a disconnect until `repeat` nothing is sent. */
  hold(): void {
    this.#held = true;
  }

  /** What the server may not know yet. */
  get unconfirmed(): readonly Delivery[] {
    return this.#unconfirmed;
  }

  /** A pong after these acknowledgements means that the server has them. One flush at a time covers all. */
  confirm(): void {
    if (this.#held || this.#flushing || this.#unconfirmed.length === 0) return;
    this.#flushing = true;
    const covered = this.#unconfirmed.length;
    this.#nc
      .flush()
      .then(
        () => this.#unconfirmed.splice(0, covered),
        () => {},
      )
      .finally(() => {
        this.#flushing = false;
      });
  }

  /** After a reconnect to the same consumer of a stream that has lost nothing. What the server already has it ignores. */
  repeat(): void {
    this.#held = false;
    for (const { reply } of this.#unconfirmed) this.#send(reply, "+ACK");
    this.confirm();
  }

  #send(reply: string, body: string): void {
    if (this.#held) return;
    try {
      this.#nc.publish(reply, body);
    } catch {
      // The connection is closed for good; the server delivers again.
    }
  }
}
