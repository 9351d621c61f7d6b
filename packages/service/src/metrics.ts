import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** Seconds, from half a millisecond to ten seconds: for HTTP and stores alike. */
export const latencyBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10];

const registry = new Registry();
let defaults = false;

/** Adds Node's own metrics, once per process. 100 ms instead of prom-client's 10 ms: a hundred wake-ups a second are a tenth of an idle core's noise. */
export function collectRuntimeMetrics(): void {
  if (defaults) return;
  defaults = true;
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 100 });
}

/** The process's metrics. The makers return the metric that already has the name, so a module may ask for its metric wherever it needs it. */
export const metrics = {
  registry,
  counter<L extends string>(name: string, help: string, labelNames: readonly L[] = []): Counter<L> {
    return existing<Counter<L>>(name) ?? new Counter({ name, help, labelNames, registers: [registry] });
  },
  /** `collect` is called at each scrape, to set the value at that moment. */
  gauge<L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[] = [],
    collect?: (gauge: Gauge<L>) => void | Promise<void>,
  ): Gauge<L> {
    const found = existing<Gauge<L>>(name);
    if (found) return found;
    return new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      ...(collect
        ? {
            collect(this: Gauge<L>) {
              return collect(this);
            },
          }
        : {}),
    });
  },
  histogram<L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[] = [],
    buckets: readonly number[] = latencyBuckets,
  ): Histogram<L> {
    return (
      existing<Histogram<L>>(name) ??
      new Histogram({ name, help, labelNames, buckets: [...buckets], registers: [registry] })
    );
  },
};

export type Metrics = typeof metrics;

function existing<M>(name: string): M | undefined {
  return registry.getSingleMetric(name) as M | undefined;
}
