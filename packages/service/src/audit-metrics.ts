import type { Metrics } from "./metrics.ts";

/** What an audit of a read model that came to its end has found and put right. */
export function countAudit(
  metrics: Metrics,
  store: string,
  { drift, mended }: { drift: number; mended: number },
): void {
  metrics.gauge("quartet_audit_drift").set({ store }, drift);
  metrics.counter("quartet_audit_mended_total").inc({ store }, mended);
  metrics.gauge("quartet_audit_last_timestamp_seconds").set({ store }, Date.now() / 1000);
}
