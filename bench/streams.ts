import { randomBytes } from "node:crypto";
import { connect, createInbox, headers, type NatsConnection, RetentionPolicy, StorageType } from "nats";

/** A message as it is published: what both the raw publisher and the relays send. */
export interface Message {
  subject: string;
  payload: string;
}

/** Publishes in flight, the relays' own default. */
const WINDOW = 2_000;
const SILENCE_MS = 20_000;

/** Connection options for an engine's URL with user and password in it. */
export function natsOptions(url: string): { servers: string; user: string; pass: string } {
  const { host, username, password } = new URL(url);
  return { servers: host, user: decodeURIComponent(username), pass: decodeURIComponent(password) };
}

export function connectTo(url: string): Promise<NatsConnection> {
  return connect({ ...natsOptions(url), timeout: 5_000, maxReconnectAttempts: 0 });
}

/** A stream with the settings of the ones that Quartet makes. `compacted`: only the last message of a subject is kept. */
export async function makeStream(nc: NatsConnection, name: string, subjects: string[], compacted: boolean) {
  const jsm = await nc.jetstreamManager({ timeout: 10_000 });
  await jsm.streams.add({
    name,
    subjects,
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    max_msgs_per_subject: compacted ? 1 : -1,
    duplicate_window: 120e9,
    allow_direct: true,
  });
}

/** Counts a known number of things and times them from the first to the last. */
export class Stopwatch {
  readonly done: Promise<number>;
  #seen = 0;
  #first = 0;
  #resolve!: (perSecond: number) => void;
  readonly #expected: number;
  readonly #timer: NodeJS.Timeout;

  /** `done` resolves with the rate, things per second; it rejects if they are not complete within `withinMs`. */
  constructor(expected: number, withinMs: number) {
    this.#expected = expected;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.done = promise;
    this.#resolve = resolve;
    this.#timer = setTimeout(() => reject(new Error(`${this.#seen} of ${expected} within ${withinMs} ms`)), withinMs);
  }

  count(): void {
    this.#seen++;
    if (this.#seen === 1) this.#first = performance.now();
    if (this.#seen !== this.#expected) return;
    clearTimeout(this.#timer);
    this.#resolve((this.#expected - 1) / ((performance.now() - this.#first) / 1000));
  }
}

/**
 * The publish limit of one Node process: no store behind it, no fence, no message id; each publish names a reply subject, one wildcard
 * subscription takes the acks, 2,000 are in flight. Returns acknowledged messages per second, from the first ack to the last.
 */
export async function publishRaw(nc: NatsConnection, messages: Message[], stopwatchMs = 60_000): Promise<number> {
  const prefix = `${createInbox()}.`;
  const watch = new Stopwatch(messages.length, stopwatchMs);
  const h = headers();
  h.set("Content-Type", "application/cloudevents+json");
  let sent = 0;
  let acked = 0;
  let wake: () => void = () => {};
  let refused: string | undefined;
  const subscription = nc.subscribe(`${prefix}*`, {
    callback: (error, message) => {
      const text = error ? String(error) : message.string();
      if (error || !text.includes('"seq"')) refused ??= text || "no stream";
      acked++;
      watch.count();
      if (sent - acked <= WINDOW / 2 || refused) wake();
    },
  });
  try {
    while (sent < messages.length) {
      if (refused) throw new Error(`JetStream refused a message: ${refused}`);
      if (sent - acked < WINDOW) {
        const { subject, payload } = messages[sent]!;
        nc.publish(subject, payload, { reply: prefix + sent.toString(36), headers: h });
        sent++;
      } else {
        const room = new Promise<void>((resolve) => {
          wake = resolve;
        });
        await within(room, SILENCE_MS, "JetStream stopped acknowledging");
      }
    }
    return await watch.done;
  } finally {
    subscription.unsubscribe();
  }
}

/**
 * The consume limit of one Node process: pulls a stream from its beginning and acknowledges each message, and does nothing else. Returns
 * messages per second.
 */
export async function pullRaw(nc: NatsConnection, stream: string, total: number): Promise<number> {
  const jsm = await nc.jetstreamManager({ timeout: 10_000 });
  const name = `bench-${randomBytes(4).toString("hex")}`;
  const wanted = { name, durable_name: name, ack_policy: "explicit", deliver_policy: "all", max_ack_pending: 40_000 };
  const answer = await nc.request(
    `$JS.API.CONSUMER.CREATE.${stream}.${name}`,
    JSON.stringify({ stream_name: stream, config: wanted }),
    { timeout: 10_000 },
  );
  if (answer.string().includes('"error"')) throw new Error(answer.string());
  const inbox = createInbox();
  const watch = new Stopwatch(total, 60_000);
  const batch = 5_000;
  let open = 0;
  const ask = () => {
    open = batch;
    nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${name}`, JSON.stringify({ batch, expires: 30e9 }), {
      reply: inbox,
    });
  };
  const subscription = nc.subscribe(inbox, {
    callback: (_, message) => {
      if (!message.reply) return;
      message.respond("+ACK");
      watch.count();
      if (--open === 0) ask();
    },
  });
  ask();
  try {
    return await watch.done;
  } finally {
    subscription.unsubscribe();
    await jsm.consumers.delete(stream, name);
  }
}

/** Rejects with `what` if the promise takes longer. */
export async function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} (${ms} ms)`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
