import { catalogue, type MetricDefinition, type ServiceName } from "./metric-catalogue.ts";
import { collectRuntimeMetrics, metrics } from "./metrics.ts";

const SECTIONS: [RegExp, string, string][] = [
  [/^quartet_(http|reads|rate|request)/, "HTTP", "Rate, errors and duration of every route."],
  [
    /^quartet_(dependency|pool|password)/,
    "Stores and peers, as a client sees them",
    "Each behind a deadline and a circuit breaker.",
  ],
  [/^quartet_(store|postgres)/, "Stores", "Asked at every scrape; a store that does not answer within 1.2 s is down."],
  [/^quartet_outbox/, "Outbox", "From the commit in PostgreSQL or Redis to JetStream's acknowledgement."],
  [/^quartet_(projection|consumer|dead)/, "Projection", "From JetStream into a read model."],
  [/^quartet_stream/, "Streams", "JetStream's figures of the three streams."],
  [/^quartet_(audit|erasures|rebuild)/, "Audit, erasure, rebuild", ""],
  [/^quartet_(worker|background)/, "Loops", "Everything that runs in the background, started again whenever it ends."],
];

const SERVICES = 5;

/** docs/metrics.md: every metric a process of Quartet has, in the order of the catalogue. */
export async function metricsPage(): Promise<string> {
  const entries = Object.entries(catalogue) as [string, MetricDefinition][];
  const parts = SECTIONS.map(([pattern, title, text]) => {
    const rows = entries.filter(([name]) => pattern.test(name)).map(row);
    return `## ${title}\n${text ? `${text}\n` : ""}\n| metric | type | labels | in | |\n|---|---|---|---|---|\n${rows.join("\n")}\n`;
  });
  const left = entries.filter(([name]) => !SECTIONS.some(([pattern]) => pattern.test(name)));
  if (left.length > 0) throw new Error(`no section has ${left.map(([name]) => name).join(", ")}`);
  return `# Metrics
Every process serves its metrics at \`/metrics\` on its admin port (\`ADMIN_PORT\`), in the text format of Prometheus. This page is written from
\`packages/service/src/metric-catalogue.ts\` by \`npm run generate\`; a metric that is not there cannot be made.

Labels are bounded: a label takes the values named here, or those the code has names for (routes, loops), never an id, a path or a person. Replicas and
roles of a service are told apart by the labels of the scrape (\`job\`, \`instance\`), so the queries of the dashboards and alerts name what a figure means,
for example \`max by (source)\` for a lag that every replica sees and \`min by (consumer, source)\` for staleness, where the youngest replica is the truth.

The dashboards and alerts over these metrics are in [charts/observability](../charts/observability/README.md), the pages on what to do when an alert fires in
[runbooks/](runbooks/).

${parts.join("\n")}
## Node.js
What \`prom-client\` collects of every process.

| metric | |
|---|---|
${(await runtimeRows()).join("\n")}
`;
}

function row([name, { type, help, labels = {}, in: services, absent }]: [string, MetricDefinition]): string {
  const label = Object.entries(labels).map(([key, values]) => `\`${key}\`: ${values}`);
  const where = services.length === SERVICES ? "all" : services.map((s: ServiceName) => s).join(", ");
  return `| \`${name}\` | ${type} | ${label.join("<br>")} | ${where} | ${help}${absent ? `. Absent ${absent}` : ""} |`;
}

async function runtimeRows(): Promise<string[]> {
  collectRuntimeMetrics();
  const found = await metrics.registry.getMetricsAsJSON();
  return found
    .filter(({ name }) => !name.startsWith("quartet_"))
    .map(({ name, help }) => `| \`${name}\` | ${help.replace(/\.$/, "")} |`);
}
