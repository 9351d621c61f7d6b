import { InvalidEventError } from "./errors.ts";
import type { OutboxEvent } from "./types.ts";

/** JetStream's default `max_payload` is 1 MiB, headers included; what is larger must not get into the outbox at all. */
export const MAX_PAYLOAD_BYTES = 1_000_000;

/**
 * NATS header with which a message leaves its stream by itself after that time (`"900s"`); left out where the stream does not allow it. For what a later
 * message makes worthless, like heartbeats: no checkpoint rests on such a message.
 */
export const TTL_HEADER = "Nats-TTL";

const SUBJECT = /^[^\s*>.\u0000-\u001f\u007f]+(\.[^\s*>.\u0000-\u001f\u007f]+)*$/u;
const HEADER_VALUE = /^[\x20-\x7e]*$/;
const HEADER_NAME = /^[!-9;-~]+$/;

/**
 * Refuses an event that JetStream would refuse, while the writer can still be told.
 * @throws InvalidEventError with the reason
 */
export function assertPublishable(event: OutboxEvent): void {
  const refuse = (why: string): never => {
    throw new InvalidEventError(`outbox event ${event.id}: ${why}`);
  };
  if (!event.id) refuse("id is empty");
  if (!event.stream) refuse("stream is empty");
  if (event.subject.length > 1000 || !SUBJECT.test(event.subject)) refuse("subject is not a literal NATS subject");
  if (event.msgId !== undefined && !(event.msgId && HEADER_VALUE.test(event.msgId))) {
    refuse("msgId must be printable ASCII");
  }
  let bytes = Buffer.byteLength(event.payload);
  for (const [name, value] of Object.entries(event.headers ?? {})) {
    if (!HEADER_NAME.test(name) || !HEADER_VALUE.test(value)) refuse(`header ${name} must be printable ASCII`);
    bytes += name.length + value.length;
  }
  if (bytes > MAX_PAYLOAD_BYTES) refuse(`${bytes} bytes are more than ${MAX_PAYLOAD_BYTES}`);
}
