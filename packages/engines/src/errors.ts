/**
 * Thrown when an engine cannot be had on this machine: no artefact for the platform, or a program that is needed is missing.
 * The message is one line that names what is missing and how to go on.
 */
export class EngineUnavailableError extends Error {
  override readonly name = "EngineUnavailableError";
}

/** Thrown when an engine's process ended before it answered, or did not answer in time; carries the end of its log. */
export class EngineStartError extends Error {
  override readonly name = "EngineStartError";
  readonly log: string;

  constructor(message: string, log: string) {
    super(log ? `${message}\n${log}` : message);
    this.log = log;
  }
}
