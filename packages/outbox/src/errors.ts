import type { OutboxEvent } from "./types.ts";

/** Base of the errors of this package. `retry` says whether trying again can help: policy reads the type, never the message. */
export class OutboxError extends Error {
  readonly retry: boolean;
  constructor(message: string, retry: boolean, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.retry = retry;
  }
}

/** Thrown by `appendOutbox` when an event could never be published as it is. The caller's transaction should not go on. */
export class InvalidEventError extends OutboxError {
  constructor(message: string) {
    super(message, false);
  }
}

/** When a fenced stream does not end where the relay believes: somebody else wrote to it. The session starts over. */
export class FencedError extends OutboxError {
  readonly stream: string;
  constructor(stream: string, detail: string) {
    super(`another publisher wrote to ${stream}: ${detail}`, true);
    this.stream = stream;
  }
}

/** When JetStream does not answer, answers that it cannot now, or the stream does not exist (yet). */
export class BrokerError extends OutboxError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, true, options);
  }
}

/** When a publish was not acknowledged in time: stored or not, nobody knows; it is sent again. */
export class AckTimeoutError extends BrokerError {}

/** When the stream was deleted, recreated or cut while the relay was connected. */
export class StreamChangedError extends BrokerError {}

/** When an event was refused for what it is: too large, a subject or a stream that cannot be. */
export class PoisonEventError extends OutboxError {
  readonly event: OutboxEvent;
  constructor(event: OutboxEvent, message: string, options?: ErrorOptions) {
    super(`event ${event.id}: ${message}`, false, options);
    this.event = event;
  }
}

/** When the store's connection is lost, silent, or refuses what the relay needs. */
export class StoreError extends OutboxError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, true, options);
  }
}

/** When the lease of the Redis relay went to another replica. */
export class LeaseLostError extends OutboxError {
  constructor(message: string) {
    super(message, true);
  }
}
