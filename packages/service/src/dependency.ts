import CircuitBreaker from "opossum";
import { metrics } from "./metrics.ts";
import { HttpProblem, unavailable } from "./problem.ts";
import { withClientSpan } from "./tracing.ts";

export interface DependencyOptions {
  /** Longest time one operation may take; a shorter or longer one can be given to `run`. */
  timeoutMs: number;
  /**
   * True for an error that says that the dependency is broken (connection refused, shutting down, out of disk), false for one that is its
   * answer (a constraint violated, a bad query). Absent: everything but an HttpProblem is a fault.
   */
  isFault?: (error: unknown) => boolean;
  /** False where the caller makes the span itself. */
  span?: boolean;
  /** How long an open breaker waits before it lets one probe through. */
  resetMs?: number;
}

export interface Dependency {
  readonly name: string;
  /** `open`: calls fail at once; `half-open`: one probe is let through. */
  readonly state: "closed" | "half-open" | "open";
  /**
   * Runs `fn` under the deadline and the breaker. A fault, the deadline, or an open breaker is `unavailable(name)` (503); an answer that is an
   * error passes unchanged. `signal` aborts at the deadline; `fn` may ignore it, its late result is then dropped.
   */
  run<T>(fn: (signal: AbortSignal) => Promise<T>, options?: { timeoutMs?: number }): Promise<T>;
  /** Stops the breaker's timers. */
  close(): void;
}

class DeadlineExceeded extends Error {
  override name = "DeadlineExceeded";
}

/**
 * A store or peer that may be dead, frozen or slow: each call has a deadline, and once more than half of at least five calls within four
 * seconds failed, callers are turned away at once instead of queueing up behind a corpse; one probe a second finds out when it is back.
 * The breaker is opossum's; the deadline is our own, because opossum's is one per breaker and does not abort the call.
 */
export function createDependency(name: string, options: DependencyOptions): Dependency {
  const isFault = options.isFault ?? ((error: unknown) => !(error instanceof HttpProblem));
  const faulty = (error: unknown): boolean => error instanceof DeadlineExceeded || isFault(error);
  const breaker = new CircuitBreaker<[() => Promise<unknown>], unknown>((fn: () => Promise<unknown>) => fn(), {
    name,
    timeout: false,
    resetTimeout: options.resetMs ?? 1000,
    rollingCountTimeout: 4000,
    rollingCountBuckets: 8,
    rollingPercentilesEnabled: false,
    enableSnapshots: false,
    errorThresholdPercentage: 50,
    volumeThreshold: 5,
    errorFilter: (error: unknown) => !faulty(error),
  });
  const latency = metrics.histogram("quartet_dependency_duration_seconds");
  const errors = metrics.counter("quartet_dependency_errors_total");
  for (const reason of ["fault", "deadline", "open"]) errors.inc({ dependency: name, reason }, 0);
  const state = metrics.gauge("quartet_dependency_breaker_open");
  const inFlight = metrics.gauge("quartet_dependency_in_flight").labels(name);
  inFlight.set(0);
  const observed = {
    ok: latency.labels(name, "ok"),
    answer: latency.labels(name, "refused"),
    fault: latency.labels(name, "fault"),
  };
  state.set({ dependency: name }, 0);
  breaker.on("open", () => state.set({ dependency: name }, 1));
  breaker.on("halfOpen", () => state.set({ dependency: name }, 0.5));
  breaker.on("close", () => state.set({ dependency: name }, 0));

  return {
    name,
    get state() {
      return breaker.opened ? "open" : breaker.halfOpen ? "half-open" : "closed";
    },
    async run<T>(fn: (signal: AbortSignal) => Promise<T>, { timeoutMs = options.timeoutMs } = {}): Promise<T> {
      const start = performance.now();
      const elapsed = () => (performance.now() - start) / 1000;
      inFlight.inc();
      try {
        const guarded = () => breaker.fire(() => withDeadline(fn, timeoutMs, name));
        const result = await (options.span === false
          ? guarded()
          : withClientSpan(name, { "peer.service": name }, guarded));
        observed.ok.observe(elapsed());
        return result as T;
      } catch (error) {
        const rejected = (error as { code?: string } | null)?.code === "EOPENBREAKER";
        if (!rejected && !faulty(error)) {
          observed.answer.observe(elapsed());
          throw error;
        }
        errors.inc({
          dependency: name,
          reason: rejected ? "open" : error instanceof DeadlineExceeded ? "deadline" : "fault",
        });
        if (!rejected) observed.fault.observe(elapsed());
        throw unavailable(name, 1, error);
      } finally {
        inFlight.dec();
      }
    },
    close: () => breaker.shutdown(),
  };
}

async function withDeadline<T>(fn: (signal: AbortSignal) => Promise<T>, timeoutMs: number, name: string): Promise<T> {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const error = new DeadlineExceeded(`${name} did not answer within ${timeoutMs} ms`);
      reject(error);
      controller.abort(error);
    }, timeoutMs);
  });
  try {
    const work = fn(controller.signal);
    work.catch(() => {}); // a rejection after the deadline has nobody left to tell
    return await Promise.race([work, deadline]);
  } finally {
    clearTimeout(timer);
  }
}
