import { activity } from "./activity.ts";
import { type Metrics, setOrForget } from "./metrics.ts";

const WAITS = ["store", "broker", "stream"] as const;

/** What a projector says of itself. */
interface ProjectorFigures {
  state: string;
  asOf: Record<string, string>;
  deadLetters: number | null;
}

/** The metrics of a projector, as the hooks that a projector calls; the same names for every read model, told apart by its consumer. */
export function projectionMetrics(metrics: Metrics, consumer: string) {
  const applied = metrics.counter("quartet_projection_events_applied_total");
  const stale = metrics.counter("quartet_projection_events_stale_total");
  const sizes = metrics.histogram("quartet_projection_batch_events");
  const seconds = metrics.histogram("quartet_projection_apply_duration_seconds");
  const dead = metrics.counter("quartet_projection_dead_letters_total");
  const retried = metrics.counter("quartet_projection_retries_total");
  const redelivered = metrics.counter("quartet_projection_redeliveries_total");
  const pending = metrics.gauge("quartet_consumer_pending");
  const unacked = metrics.gauge("quartet_consumer_ack_pending");
  for (const counter of [applied, stale, dead, retried, redelivered]) counter.inc({ consumer }, 0);
  return {
    batch(n: number, ms: number): void {
      applied.inc({ consumer }, n);
      sizes.observe({ consumer }, n);
      seconds.observe({ consumer }, ms / 1000);
    },
    has(subjects: string[]): void {
      for (const subject of subjects) activity.saw(`apply.${consumer}`, subject);
    },
    stale: (n: number) => stale.inc({ consumer }, n),
    dead: (n: number) => dead.inc({ consumer }, n),
    retry: (n: number) => retried.inc({ consumer }, n),
    redelivered: () => redelivered.inc({ consumer }),
    consumer(figures: { pending: number; ackPending: number }): void {
      pending.set({ consumer }, figures.pending);
      unacked.set({ consumer }, figures.ackPending);
    },
  };
}

/**
 * The figures of a projector, read at every scrape: staleness grows between two watermarks and while nothing arrives at all. Before the first watermark of
 * this process it is at least as old as the process; with several replicas the youngest is the truth.
 */
export function observeProjector(
  metrics: Metrics,
  consumer: string,
  sources: readonly string[],
  projector: { status(): ProjectorFigures },
): void {
  const since = Date.now();
  metrics.gauge("quartet_projection_staleness_seconds", (gauge) => {
    const { asOf } = projector.status();
    for (const source of sources) {
      const at = asOf[source];
      gauge.set({ consumer, source }, Math.max(0, Date.now() - (at ? Date.parse(at) : since)) / 1000);
    }
  });
  metrics.gauge("quartet_projection_waiting", (gauge) => {
    const { state } = projector.status();
    for (const what of WAITS) {
      const waits = state === `waiting for the ${what}` || (what === "broker" && state === "connecting");
      gauge.set({ consumer, for: what }, waits ? 1 : 0);
    }
  });
  metrics.gauge("quartet_dead_letters", (gauge) => setOrForget(gauge, { consumer }, projector.status().deadLetters));
}
