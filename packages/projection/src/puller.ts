import { createInbox, type Msg, type NatsConnection, type Subscription } from "nats";
import { Delivery, isDelivery } from "./delivery.ts";

const EXPIRES_MS = 30_000;
const IDLE_HEARTBEAT_MS = 1_500;
/** Silence after which a request is taken for lost: two heartbeats and some slack for a busy event loop. */
const SILENCE_MS = 4_000;

export interface PullerOptions {
  nc: NatsConnection;
  stream: string;
  consumer: string;
  maxMessages: number;
  maxBytes: number;
  /** The consumer may be gone, the server silent: look, then call `resume()`. Called at most once until then. */
  onTrouble(reason: string): void;
  onDelivery(delivery: Delivery): void;
}

/**
 * Fills a bounded buffer from a pull consumer, with one request on the server at a time: a long one, answered message by message as they come, so
 * an idle stream delivers in a fraction of a millisecond and a busy one fills the buffer while the previous batch is being applied.
 *
 * Own requests rather than `consume()` of nats.js, because of what it does in trouble: it buffers without a bound in callback mode, it waits for the idle
 * heartbeat to notice a reconnect whose check failed, it backs off for the whole expiry (30 s), and it never makes a deleted consumer anew.
 * Here every sign of trouble (no responders, consumer deleted, silence, reconnect) ends in one place.
 *
 * One puller serves one incarnation of the consumer; its inbox is its own, so nothing of an earlier one can arrive.
 */
export class Puller {
  readonly #options: PullerOptions;
  readonly #inbox: string;
  readonly #subscription: Subscription;
  readonly #watch: NodeJS.Timeout;
  #buffer: Delivery[] = [];
  #bytes = 0;
  #request = 0;
  /** Messages the open request may still bring; 0 = there is no open request. */
  #open = 0;
  #brought = 0;
  #heard = performance.now();
  #troubled = false;
  #stopped = false;
  #oversized = false;
  #wake: (() => void) | undefined;

  constructor(options: PullerOptions) {
    this.#options = options;
    this.#inbox = createInbox(inboxPrefixOf(options.nc));
    this.#subscription = options.nc.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => (error ? this.#trouble(String(error)) : this.#receive(message)),
    });
    this.#watch = setInterval(() => {
      if (this.#open > 0 && performance.now() - this.#heard > SILENCE_MS) this.#trouble("no sign of life");
    }, IDLE_HEARTBEAT_MS / 2);
    this.#fill();
  }

  get buffered(): readonly Delivery[] {
    return this.#buffer;
  }

  /** Resolves when there is something to take, or on `poke()`. */
  async ready(): Promise<void> {
    if (this.#buffer.length > 0 || this.#stopped) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  poke(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** All that is there, up to the limits; at least one if there is any. */
  take(max: number, maxBytes: number): Delivery[] {
    let n = 0;
    let bytes = 0;
    while (n < this.#buffer.length && n < max) {
      const size = this.#buffer[n]!.size;
      if (n > 0 && bytes + size > maxBytes) break;
      bytes += size;
      n++;
    }
    const taken = this.#buffer.splice(0, n);
    this.#bytes -= bytes;
    this.#fill();
    return taken;
  }

  /** The consumer was looked at and is there: whatever was asked before is forgotten. */
  resume(): void {
    this.#troubled = false;
    this.#open = 0;
    this.#fill();
  }

  /** Asks for nothing more. What is on its way still arrives in the buffer until the promise resolves. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    clearInterval(this.#watch);
    this.poke();
    await this.#subscription.drain().catch(() => {});
  }

  /** Drops everything, without a word to the server. */
  abandon(): void {
    this.#stopped = true;
    clearInterval(this.#watch);
    this.#subscription.unsubscribe();
    this.#buffer = [];
    this.poke();
  }

  #fill(): void {
    const { nc, stream, consumer, maxMessages, maxBytes } = this.#options;
    const batch = maxMessages - this.#buffer.length;
    const bytes = maxBytes - this.#bytes;
    if (this.#stopped || this.#troubled || this.#open > 0 || batch < maxMessages / 2 || bytes < maxBytes / 2) return;
    // A message larger than the byte limit would otherwise end every request before its first message.
    const size = this.#oversized ? { batch: 1 } : { batch, max_bytes: bytes };
    const body = { ...size, expires: EXPIRES_MS * 1e6, idle_heartbeat: IDLE_HEARTBEAT_MS * 1e6 };
    this.#oversized = false;
    this.#open = size.batch;
    this.#brought = 0;
    this.#heard = performance.now();
    this.#request++;
    try {
      nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, JSON.stringify(body), {
        reply: `${this.#inbox}.${this.#request}`,
      });
    } catch (error) {
      this.#trouble(String(error));
    }
  }

  #receive(message: Msg): void {
    this.#heard = performance.now();
    if (!isDelivery(message)) {
      this.#status(message);
      return;
    }
    const delivery = new Delivery(message, this.#heard);
    this.#buffer.push(delivery);
    this.#bytes += delivery.size;
    this.#brought++;
    if (this.#open > 0) this.#open--;
    this.#options.onDelivery(delivery);
    this.poke();
    if (this.#open === 0) this.#fill();
  }

  #status(message: Msg): void {
    const code = message.headers?.code ?? 0;
    if (code === 100 || message.subject !== `${this.#inbox}.${this.#request}`) return;
    const text = message.headers?.description ?? "";
    if (code === 503 || code === 404 || code === 400 || /consumer deleted|push based|server shutdown/i.test(text)) {
      this.#trouble(`${code} ${text || "no responders"}`);
      return;
    }
    // The request has ended: expired, or full by bytes.
    if (/exceeds maxbytes/i.test(text) && this.#brought === 0) this.#oversized = true;
    this.#open = 0;
    if (/exceeded|leadership/i.test(text) && !/maxbytes/i.test(text)) setTimeout(() => this.#fill(), 250).unref();
    else this.#fill();
  }

  #trouble(reason: string): void {
    if (this.#troubled || this.#stopped) return;
    this.#troubled = true;
    this.#open = 0;
    this.#options.onTrouble(reason);
  }
}

/** The connection knows its prefix, its public type does not. */
function inboxPrefixOf(nc: NatsConnection): string | undefined {
  return (nc as unknown as { options?: { inboxPrefix?: string } }).options?.inboxPrefix;
}
