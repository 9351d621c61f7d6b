import type { Metrics } from "./metrics.ts";

/** The metrics of a projector, as the hooks that a projector calls; the same names for every read model, told apart by its consumer. */
export function projectionMetrics(metrics: Metrics, consumer: string) {
  const labels = ["consumer"] as const;
  const applied = metrics.counter("quartet_projection_events_total", "Events settled", labels);
  const seconds = metrics.histogram("quartet_projection_apply_seconds", "Time to settle a batch", labels);
  const dead = metrics.counter("quartet_projection_dead_letters_total", "Messages parked on DEAD", labels);
  const retried = metrics.counter("quartet_projection_retries_total", "Items given back for a later delivery", labels);
  const lag = metrics.gauge("quartet_projection_lag_messages", "Undelivered and unacknowledged messages", labels);
  const staleness = metrics.gauge("quartet_projection_staleness_seconds", "Age of the watermark", [
    "consumer",
    "source",
  ]);
  return {
    batch: (n: number, ms: number) => {
      applied.inc({ consumer }, n);
      seconds.observe({ consumer }, ms / 1000);
    },
    dead: (n: number) => dead.inc({ consumer }, n),
    retry: (n: number) => retried.inc({ consumer }, n),
    lag: (n: number) => lag.set({ consumer }, n),
    staleness: (source: string, s: number) => staleness.set({ consumer, source }, s),
  };
}
