import { Empty, headers as makeHeaders, type NatsConnection } from "nats";
import { backoff, pause } from "./backoff.ts";
import { Stopped } from "./errors.ts";
import { publish } from "./jsapi.ts";
import type { Logger, RawMessage } from "./types.ts";

/** Headers of a dead letter. */
export const DEAD = {
  reason: "Quartet-Dead-Reason",
  stream: "Quartet-Dead-Stream",
  subject: "Quartet-Dead-Subject",
  sequence: "Quartet-Dead-Sequence",
  consumer: "Quartet-Dead-Consumer",
  time: "Quartet-Dead-Time",
  /** The payload was too large to be parked together with these headers; it is only in the original stream. */
  omitted: "Quartet-Dead-Omitted-Bytes",
} as const;

const MAX_REASON = 500;
/** What our own headers may take of the largest message. */
const HEADER_ROOM = 2_048;

export interface ParkOptions {
  nc: NatsConnection;
  stream: string;
  streamCreated: string;
  consumer: string;
  subject: string;
  message: RawMessage;
  reason: string;
  logger: Logger;
  signal: AbortSignal;
}

/** Header values are one line of printable characters. */
function line(text: string): string {
  return (
    text
      .replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ")
      .trim()
      .slice(0, MAX_REASON) || "unknown"
  );
}

/**
 * Publishes a poisonous message to the dead-letter stream and waits for its acknowledgement, for ever if need be: until then the original must not be let
 * go. Repeats within the stream's duplicate window are one letter. Throws Stopped.
 */
export async function park(options: ParkOptions): Promise<void> {
  const { nc, message, consumer, stream, streamCreated, subject, reason, logger, signal } = options;
  const room = (nc.info?.max_payload ?? 1_048_576) - HEADER_ROOM;
  const headers = makeHeaders();
  let size = message.data.length;
  for (const name of message.headers?.keys() ?? []) {
    // The original's own instructions to the server (message id, expected sequence) are not ours to repeat.
    if (/^(nats-|quartet-dead-)/i.test(name)) continue;
    const values = message.headers!.values(name);
    const bytes = values.reduce((sum, value) => sum + name.length + value.length * 3 + 4, 0);
    if (size + bytes > room) continue;
    size += bytes;
    for (const value of values) headers.append(name, value);
  }
  const fits = message.data.length <= room;
  if (!fits) headers.set(DEAD.omitted, String(message.data.length));
  headers.set(DEAD.reason, line(reason));
  headers.set(DEAD.stream, stream);
  headers.set(DEAD.subject, message.subject);
  headers.set(DEAD.sequence, String(message.seq));
  headers.set(DEAD.consumer, consumer);
  headers.set(DEAD.time, message.time.toISOString());
  headers.set("Nats-Msg-Id", `dead:${consumer}:${stream}:${Date.parse(streamCreated)}:${message.seq}`);
  for (let attempt = 0; ; attempt++) {
    try {
      await publish(nc, subject, fits ? message.data : Empty, headers);
      if (attempt > 0) logger.info({ subject }, "dead letters can be parked again");
      return;
    } catch (error) {
      if (attempt === 0) logger.warn({ subject, error: String(error) }, "cannot park a dead letter: holding it");
      await pause(backoff(attempt), signal);
      if (signal.aborted) throw new Stopped();
    }
  }
}
