import { setTimeout as sleep } from "node:timers/promises";
import { OutboxError, PoisonEventError } from "./errors.ts";
import type { Blocker, CommonRelayOptions, RelayLogger, RelayStatus } from "./types.ts";

const SILENT: RelayLogger = { debug() {}, info() {}, warn() {}, error() {} };

/** Everything a relay keeps from one session to the next. */
export class RelayState {
  readonly options: CommonRelayOptions;
  readonly logger: RelayLogger;
  active = false;
  duplicates = 0;
  resent = 0;
  restarts = 0;
  lastError: RelayStatus["lastError"] = null;
  /** Streams that are fed from the store's own table, since when (by the monotonic clock), and why if they refuse. */
  owing: ReadonlyMap<string, { began: number; reason: string | undefined }> = new Map();
  /** A new replication slot cannot be made as long as a transaction goes on. */
  slotWaitsFor: { blocker: Blocker | undefined; since: number } | undefined;
  /** Events that `onPoison` took over. */
  readonly skipped = new Set<string>();
  #published = 0;
  /** By stream, when the log was told last that it refuses. */
  readonly #refusals = new Map<string, number>();
  /** What the log was told last, and since when it holds. */
  #trouble: { reason: string; since: number } | undefined;

  constructor(options: CommonRelayOptions) {
    this.options = options;
    this.logger = options.logger ?? SILENT;
  }

  /** The same for people. */
  get owed(): RelayStatus["owed"] {
    const age = (since: number) => Math.round((performance.now() - since) / 1000);
    return Object.fromEntries(
      [...this.owing].map(([stream, { began, reason }]) => [stream, { seconds: age(began), reason: reason ?? null }]),
    );
  }

  get published(): number {
    return this.#published;
  }

  set published(count: number) {
    this.#published = count;
    if (!this.#trouble) return;
    const seconds = Math.round((performance.now() - this.#trouble.since) / 100) / 10;
    this.#trouble = undefined;
    this.logger.info({ seconds }, "relay publishes again");
  }

  /** Logs that a stream refuses: at its limit it may do so from moment to moment, which is one line a minute. */
  refused(stream: string, reason: string): void {
    const last = this.#refusals.get(stream);
    const known = last !== undefined && performance.now() - last < 60_000;
    if (!known) this.#refusals.set(stream, performance.now());
    this.logger[known ? "debug" : "warn"](
      { stream, reason },
      "stream refuses; what it is owed is kept, the others go on",
    );
  }

  /** Counts a session that ended by an error, and logs it: one line when the reason changes, however often it is tried. */
  failed(error: unknown, retryInMs: number): void {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    this.restarts++;
    this.lastError = { at: new Date().toISOString(), name, message };
    this.options.metrics?.restarted?.(name);
    const expected = error instanceof OutboxError && error.retry;
    const context = expected ? { reason: name, retryInMs } : { err: error, retryInMs };
    const known = this.#trouble?.reason === name;
    this.#trouble = { reason: name, since: this.#trouble?.since ?? performance.now() };
    const level = known ? "debug" : expected ? "warn" : "error";
    this.logger[level](context, `relay starts over: ${message}`);
  }
}

/**
 * Runs sessions one after another until the signal aborts, for ever: a broker or store that is down only means waiting. The pause doubles from
 * 100 ms to `maxBackoffMs` and starts over after a session that relayed something.
 */
export async function runSessions(
  state: RelayState,
  signal: AbortSignal,
  session: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const longest = state.options.maxBackoffMs ?? 2_000;
  let pause = 100;
  while (!signal.aborted) {
    const before = state.published;
    try {
      await session(signal);
    } catch (error) {
      if (signal.aborted) return;
      if (state.published > before) pause = 100;
      state.failed(error, pause);
      await takeOverPoison(state, error);
      await sleep(pause, undefined, { signal }).catch(() => {});
      pause = Math.min(pause * 2, longest);
    } finally {
      state.active = false;
    }
  }
}

async function takeOverPoison(state: RelayState, error: unknown): Promise<void> {
  if (!(error instanceof PoisonEventError) || !state.options.onPoison) return;
  const { event } = error;
  try {
    await state.options.onPoison(event, error);
    state.skipped.add(event.id);
    // The oldest are long behind; one that came again would be taken over again.
    if (state.skipped.size > 10_000) state.skipped.delete(state.skipped.values().next().value!);
    state.logger.error({ eventId: event.id, stream: event.stream }, "poison event was taken over and is skipped");
  } catch (failure) {
    state.logger.error({ err: failure, eventId: event.id }, "onPoison failed, the relay stays where it is");
  }
}

/** One outcome for many sources: the first failure or the abort decides. */
export class Outcome {
  readonly promise: Promise<void>;
  settled = false;
  readonly #promise = Promise.withResolvers<void>();
  readonly #signal: AbortSignal;
  readonly #abort = () => this.end();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    this.promise = this.#promise.promise;
    // Whoever awaits it sees the failure; nobody may be awaiting it yet.
    this.promise.catch(() => {});
    if (signal.aborted) this.end();
    else signal.addEventListener("abort", this.#abort);
  }

  end(): void {
    this.#settle();
    this.#promise.resolve();
  }

  fail(error: unknown): void {
    this.#settle();
    this.#promise.reject(error);
  }

  #settle(): void {
    this.settled = true;
    this.#signal.removeEventListener("abort", this.#abort);
  }
}

/** `every` for a side task of a relay, which tells its owner how it went. */
export function everyTask(state: RelayState, name: string, everyMs: number, task: () => Promise<void>): () => void {
  const tell = (error?: unknown) => state.options.onTask?.(name, error);
  return every(
    everyMs,
    async () => {
      await task();
      tell();
    },
    (error) => {
      state.logger.debug({ err: error }, `${name} of the relay has to wait`);
      tell(error);
    },
  );
}

/** Runs `task` every `everyMs`, never twice at once, until the returned function is called. Errors go to `onError`. */
export function every(
  everyMs: number,
  task: () => Promise<void> | void,
  onError: (error: unknown) => void,
): () => void {
  let running = false;
  const timer = setInterval(async () => {
    if (running) return;
    running = true;
    try {
      await task();
    } catch (error) {
      onError(error);
    } finally {
      running = false;
    }
  }, everyMs);
  return () => clearInterval(timer);
}

/** Resolves after a while; does not keep the process alive. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
