/**
 * Errors that say what to do about them. The projector reads `retryable` and `poison`, never a message, so that a caller may throw classes of
 * its own with the same marks.
 */

/** Thrown by `apply`, `flush`, `onWatermark` or `probe` when the store cannot be reached or cannot take anything now: wait and try again. */
export class StoreUnavailable extends Error {
  override name = "StoreUnavailable";
  readonly retryable = true;
}

/** Thrown by `decode` or `apply` when this one message can never be applied, whatever the state of the store: park it. */
export class PoisonMessage extends Error {
  override name = "PoisonMessage";
  readonly poison = true;
}

/** Thrown inside when a batch fails although nobody called the store unavailable, and nothing proves that the store is well. */
export class Unproven extends Error {
  override name = "Unproven";
}

/** Thrown inside when work is given up because the projector is asked to stop. */
export class Stopped extends Error {
  override name = "Stopped";
}

/** Thrown when JetStream answers a request with an error. `status` is like HTTP's, `code` is JetStream's own error number. */
export class JetStreamFailure extends Error {
  override name = "JetStreamFailure";
  readonly status: number;
  readonly code: number;

  constructor(message: string, status: number, code: number) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Thrown by `deadLetters().retry` for a retained state that was given no hook: an old state must never be published again. */
export class RetainedState extends Error {
  override name = "RetainedState";
}

/** Thrown by `deadLetters()` when no letter has that sequence. */
export class NoSuchLetter extends Error {
  override name = "NoSuchLetter";
}

/** Thrown by `deadLetters().retry` when the payload was too large to be kept together with the reason. */
export class PayloadOmitted extends Error {
  override name = "PayloadOmitted";
}

function marked(error: unknown, mark: "retryable" | "poison"): boolean {
  return typeof error === "object" && error !== null && (error as Record<string, unknown>)[mark] === true;
}

export function isRetryable(error: unknown): boolean {
  return marked(error, "retryable");
}

export function isPoison(error: unknown): boolean {
  return marked(error, "poison");
}

/** One line that tells a person what went wrong: name, message and the first cause. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = error.message ? `${error.name}: ${error.message}` : error.name;
  return error.cause instanceof Error && error.cause.message ? `${own} (${error.cause.message})` : own;
}
