import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { catalogue, type LabelsOf, latencyBuckets, type MetricDefinition, type NameOf } from "./metric-catalogue.ts";

const registry = new Registry();
let defaults = false;

/** Adds Node's own metrics, once per process. 100 ms instead of prom-client's 10 ms: a hundred wake-ups a second are a tenth of an idle core's noise. */
export function collectRuntimeMetrics(): void {
  if (defaults) return;
  defaults = true;
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 100 });
}

type Collect<L extends string> = (gauge: Gauge<L>) => void | Promise<void>;
const collectors = new Map<string, Set<Collect<string>>>();

/**
 * The process's metrics, as the catalogue declares them. The makers return the metric that is there already, so a module may ask for its metric wherever
 * it needs it.
 */
export const metrics = {
  registry,
  counter<N extends NameOf<"counter">>(name: N): Counter<LabelsOf<N>> {
    return registered(name, () => new Counter({ ...settings(name), registers: [registry] }));
  },
  /** `collect` is called at each scrape, to set the value at that moment; several may be given, one call each. One that throws is passed over. */
  gauge<N extends NameOf<"gauge">>(name: N, collect?: Collect<LabelsOf<N>>): Gauge<LabelsOf<N>> {
    const gauge = registered(
      name,
      () =>
        new Gauge({
          ...settings(name),
          registers: [registry],
          async collect() {
            for (const each of collectors.get(name) ?? []) {
              try {
                await each(this);
              } catch {
                // A scrape tells what can be told.
              }
            }
          },
        }),
    );
    if (collect) {
      const known = collectors.get(name) ?? new Set();
      collectors.set(name, known.add(collect as Collect<string>));
    }
    return gauge as Gauge<LabelsOf<N>>;
  },
  histogram<N extends NameOf<"histogram">>(name: N): Histogram<LabelsOf<N>> {
    const { buckets = latencyBuckets }: MetricDefinition = catalogue[name];
    return registered(name, () => new Histogram({ ...settings(name), buckets: [...buckets], registers: [registry] }));
  },
};

export type Metrics = typeof metrics;

/** Sets a gauge, or takes the sample away where the value is unknown: no value is not zero, and not NaN either. */
export function setOrForget<L extends string>(
  gauge: Gauge<L>,
  labels: Partial<Record<L, string>>,
  value: number | null | undefined,
): void {
  if (value === null || value === undefined || Number.isNaN(value)) gauge.remove(labels);
  else gauge.set(labels, value);
}

function settings(name: keyof typeof catalogue) {
  const { help, labels = {} }: MetricDefinition = catalogue[name];
  return { name, help, labelNames: Object.keys(labels) };
}

function registered<M>(name: string, make: () => M): M {
  return (registry.getSingleMetric(name) as M | undefined) ?? make();
}
