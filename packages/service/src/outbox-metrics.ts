import { activity } from "./activity.ts";
import type { Logger } from "./logger.ts";
import { type Metrics, setOrForget } from "./metrics.ts";
import { type TaskWatch, watchTask } from "./tasks.ts";
import { recordSpan, SpanKind } from "./tracing.ts";

/** What a relay says of itself; a lag it has no word for is left out. */
interface RelayFigures {
  active: boolean;
  lagSeconds: number | null;
  lagBytes?: number | null;
  lagEntries?: number | null;
  unacked: number;
  owed: Record<string, { seconds: number }>;
  slotWaitsFor?: { pid?: number; application?: string; waitedSeconds: number } | null;
}

interface Relayed {
  id: string;
  subject: string;
  headers?: Record<string, string> | undefined;
}

/** The hooks that a relay calls: it counts, and each event that carries a trace gets a span from its commit to JetStream's acknowledgement. */
export function relayMetrics(metrics: Metrics, source: "user" | "session") {
  const published = metrics.counter("quartet_outbox_published_total");
  const seconds = metrics.histogram("quartet_outbox_publish_duration_seconds");
  const duplicates = metrics.counter("quartet_outbox_duplicates_total");
  const resent = metrics.counter("quartet_outbox_resent_total");
  const restarts = metrics.counter("quartet_outbox_restarts_total");
  restarts.inc({ source }, 0);
  return {
    published(stream: string, took: number, event: Relayed): void {
      published.inc({ source, stream });
      seconds.observe({ source, stream }, took);
      activity.saw(`publish.${source}`, event.subject, took * 1000);
      const end = Date.now();
      recordSpan(`publish ${stream}`, event.headers?.traceparent, end - took * 1000, end, SpanKind.PRODUCER, {
        "messaging.system": "nats",
        "messaging.operation.type": "send",
        "messaging.destination.name": stream,
        "messaging.message.id": event.id,
      });
    },
    duplicate: (stream: string) => duplicates.inc({ source, stream }),
    resent: (stream: string) => resent.inc({ source, stream }),
    restarted: () => restarts.inc({ source }),
  };
}

/** The hook by which a relay tells how its side tasks go. */
export function relayTasks(logger: Logger): (task: string, error: unknown) => void {
  const watches = new Map<string, TaskWatch>();
  return (task, error) => {
    const watch = watches.get(task) ?? watchTask(`relay-${task}`, { logger });
    watches.set(task, watch);
    if (error === undefined) watch.ok();
    else watch.failed(error);
  };
}

/** The figures of a relay, read at every scrape. */
export function observeRelay(
  metrics: Metrics,
  source: "user" | "session",
  streams: readonly string[],
  relay: { status(): RelayFigures },
): void {
  metrics.gauge("quartet_outbox_relay_active", (gauge) => gauge.set({ source }, relay.status().active ? 1 : 0));
  metrics.gauge("quartet_outbox_unacked", (gauge) => gauge.set({ source }, relay.status().unacked));
  metrics.gauge("quartet_outbox_owed_seconds", (gauge) => {
    const { owed } = relay.status();
    for (const stream of streams) gauge.set({ source, stream }, owed[stream]?.seconds ?? 0);
  });
  if (relay.status().slotWaitsFor !== undefined) {
    metrics.gauge("quartet_outbox_slot_waits_seconds", (gauge) => {
      gauge.reset();
      const waits = relay.status().slotWaitsFor;
      const { pid = "unknown", application = "unknown", waitedSeconds = 0 } = waits ?? {};
      // A figure that is only there in trouble cannot be told from one that is not measured.
      gauge.set(waits ? { pid: String(pid), application } : { pid: "none", application: "none" }, waitedSeconds);
    });
  }
  const lag = (unit: "Seconds" | "Bytes" | "Entries") =>
    metrics.gauge(`quartet_outbox_lag_${unit.toLowerCase() as Lowercase<typeof unit>}`, (gauge) =>
      setOrForget(gauge, { source }, relay.status()[`lag${unit}`]),
    );
  lag("Seconds");
  if (relay.status().lagBytes !== undefined) lag("Bytes");
  if (relay.status().lagEntries !== undefined) lag("Entries");
}
