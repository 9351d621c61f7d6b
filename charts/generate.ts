/**
 * Writes what follows from the charts' values.yaml: values.schema.json (strict: an unknown name or a wrong value is refused by name) and
 * README.md. `node charts/generate.ts` writes, `--check` only tells whether the files are as they would be written (exit status 1 if not).
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Document, isMap, isPair, isScalar, type Pair, parseDocument, type YAMLMap } from "yaml";

const charts = import.meta.dirname;
const NAMES = ["user", "session", "analytics", "search", "gateway", "nats", "observability", "quartet"];

type Schema = Record<string, unknown>;

const text = { type: "string" };
const texts: Schema = { type: "object", additionalProperties: text };
const objects: Schema = { type: "array", items: { type: "object" } };
const quantity: Schema = { type: ["string", "integer"], pattern: "^[0-9.]+(m|k|Ki|M|Mi|G|Gi|T|Ti)?$" };
const port: Schema = { type: "integer", minimum: 1, maximum: 65_535 };
const amounts: Schema = {
  type: "object",
  additionalProperties: false,
  properties: { cpu: quantity, memory: quantity, "ephemeral-storage": quantity },
};
const resources: Schema = {
  type: "object",
  additionalProperties: false,
  required: ["requests", "limits"],
  properties: { requests: amounts, limits: { ...amounts, required: ["memory"] } },
};
const serviceNames: Schema = { type: "array", items: { enum: ["user", "session", "analytics", "search", "gateway"] } };
const count = (minimum: number, maximum = 100): Schema => ({ type: "integer", minimum, maximum });

/** What the default alone does not tell, by the end of the path; the first that fits holds. */
const KNOWN: [RegExp, Schema][] = [
  [/(^|\.)resources$/, resources],
  [/(^|\.)pullPolicy$/, { enum: ["Always", "IfNotPresent", "Never"] }],
  [/^fullnameOverride$/, { type: "string", pattern: "^([a-z]([-a-z0-9]{0,44}[a-z0-9])?)?$" }],
  [/^global\.bindAddress$/, { enum: ["", "0.0.0.0", "::"] }],
  [/^global\.ipFamilies$/, { type: "array", maxItems: 2, uniqueItems: true, items: { enum: ["IPv4", "IPv6"] } }],
  [/^global\.quartet\.natsReplicas$/, { enum: [null, 1, 3, 5] }],
  [/^global\.ipFamilyPolicy$/, { enum: ["", "SingleStack", "PreferDualStack", "RequireDualStack"] }],
  [/^global\.tls\.except$/, { type: "array", items: { enum: ["user", "session", "analytics", "search", "nats"] } }],
  [
    /^global\.tls\.existingSecrets$/,
    {
      type: "object",
      additionalProperties: false,
      properties: { user: text, session: text, analytics: text, search: text, nats: text },
    },
  ],
  [/^global\.tls\.duration$/, { type: "string", pattern: "^[0-9]+h$" }],
  [/^global\.dnsPeers$/, objects],
  [/^global\.dnsPort$/, port],
  [/image\.digest$/, { type: "string", pattern: "^(sha256:[0-9a-f]{64})?$" }],
  [/^mode$/, { enum: ["split", "all"] }],
  [/^store\.mode$/, { enum: ["standalone", "external"] }],
  [/^logLevel$/, { enum: ["fatal", "error", "warn", "info", "debug", "trace", "silent"] }],
  [/^service\.type$/, { enum: ["ClusterIP", "NodePort", "LoadBalancer"] }],
  [/^service\.nodePort$/, { type: ["integer", "null"], minimum: 30_000, maximum: 32_767 }],
  [/^nats\.scheme$/, { enum: ["nats", "tls"] }],
  [/(^|\.)port$/, port],
  [/^replicas$/, { enum: [1, 3, 5] }],
  [/(^|\.)replicas$/, count(0)],
  [/(^|\.)maxReplicas$/, count(1)],
  [/targetCPUUtilizationPercentage$/, count(1, 1000)],
  [/(^|\.)heapMiB$/i, count(32, 1_000_000)],
  [/maxServerMemoryMiB$/, count(128, 10_000_000)],
  [/^limits\.(questions|heavyQuestions)$/, count(1, 64)],
  [/^limits\.questionMemoryMiB$/, count(64, 10_000_000)],
  [/^limits\.sessionsPerUser$/, count(1, 10_000)],
  [/^limits\.(waiting|waitingPerClient)$/, count(1, 10_000)],
  [/^limits\.concurrentPerClient$/, count(1, 1000)],
  [/^maxPayload$/, count(1024, 67_108_864)],
  [/^backup\.keep$/, count(1, 1000)],
  [/^backup\.retentionDays$/, count(1, 3650)],
  [/(^|\.)size$/, quantity],
  [/maxMemory$/, { type: "string", pattern: "^[0-9]+(b|kb|mb|gb)?$" }],
  [/(maxSlotWalKeepSize|maxFileStore|[sS]toreSize)$/, { type: "string", pattern: "^[0-9]+(MB|GB|TB)$" }],
  [/(syncInterval)$/, { type: "string", pattern: "^(always|[0-9]+(ms|s|m))$" }],
  [/^runbooks$/, { type: "string", pattern: "^(https?://.+)?$" }],
  [/(^|\.)hosts$/, { type: "array", items: { type: "string", pattern: "^(\\*\\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" } }],
  [/^(ingress|httpRoute|service|serviceAccount)\.annotations$/, texts],
  [/^services$/, serviceNames],
  [/^prometheus\.retention$/, { type: "string", pattern: "^[0-9]+(m|h|d|w)$" }],
  [/^prometheus\.scrapeInterval$/, { type: "string", pattern: "^[0-9]+(ms|s|m)$" }],
  [/^serviceMonitor\.interval$/, { type: "string", pattern: "^[0-9]+(ms|s|m)$" }],
  [/image\.repository$/, { type: "string", minLength: 1 }],
  [/image\.tag$/, { type: "string", not: { const: "latest" } }],
  [/^env$/, { type: "object", additionalProperties: { type: ["string", "number", "boolean"] } }],
  [/(podAnnotations|podLabels|dashboards\.annotations|nodeSelector|(^|\.)labels)$/, texts],
  [/^affinity$/, { type: "object" }],
  [
    /(tolerations|imagePullSecrets|monitoring|extraEgress|networkPolicyPeers|topologySpreadConstraints|extraEnvFrom)$/,
    objects,
  ],
  [/networkPolicy\.(callers|calls)$/, serviceNames],
];

function schemaOf(value: unknown, path: string): Schema {
  const known = KNOWN.find(([pattern]) => pattern.test(path))?.[1];
  if (known) return known;
  if (value === null) throw new Error(`${path}: a default of null needs an entry in KNOWN`);
  if (Array.isArray(value)) throw new Error(`${path}: a list needs an entry in KNOWN`);
  if (typeof value === "object") {
    const entries = Object.entries(value).map(([k, v]) => [k, schemaOf(v, path ? `${path}.${k}` : k)]);
    return { type: "object", additionalProperties: false, properties: Object.fromEntries(entries) };
  }
  return { type: Number.isInteger(value) ? "integer" : typeof value };
}

function schemaFile(chart: string, values: Record<string, unknown>): string {
  const body = schemaOf(chart === "quartet" ? { global: values.global } : values, "") as {
    properties: Record<string, unknown>;
  };
  const open = { type: "object" };
  // Helm adds these: the values of the umbrella, its condition, and the library's.
  const added: Schema = chart === "quartet" ? {} : { global: open, enabled: { type: "boolean" } };
  const parts = chart === "quartet" ? Object.keys(values).filter((name) => name !== "global") : [];
  const properties = {
    ...body.properties,
    ...added,
    ...Object.fromEntries(parts.map((name) => [name, open])),
    common: open,
  };
  const schema = { $schema: "http://json-schema.org/draft-07/schema#", title: chart, ...body, properties };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

/** Path, default and comment of every value; a short map is one value. */
function* rows(map: YAMLMap, prefix = "", inherited = ""): Generator<[path: string, value: unknown, comment: string]> {
  for (const [index, item] of map.items.entries()) {
    const pair = item as Pair;
    if (!isPair(pair) || !isScalar(pair.key)) continue;
    const path = prefix + String(pair.key.value);
    const node = pair.value;
    const own = pair.key.commentBefore ?? (index === 0 ? (map.commentBefore ?? inherited) : "");
    // Above an empty line is what is said of the whole file.
    const comment = (own ?? "").split("\n\n").at(-1)!.replace(/\n ?/g, " ").trim();
    if (isMap(node) && !node.flow && node.items.length > 0) {
      if (comment) yield [path, undefined, comment];
      yield* rows(node, `${path}.`);
    } else {
      yield [path, (node as { toJSON(): unknown }).toJSON(), comment];
    }
  }
}

const cell = (s: string) => s.replaceAll("|", "\\|");

function readme(chart: string, document: Document): string {
  const description = parseDocument(readFileSync(join(charts, chart, "Chart.yaml"), "utf8")).get("description");
  const table = [...rows(document.contents as YAMLMap)].map(([path, value, comment]) => {
    const shown = value === undefined ? "" : `\`${cell(JSON.stringify(value))}\``;
    return `| \`${path}\` | ${shown} | ${cell(comment)} |`;
  });
  const extra = join(charts, chart, "ABOUT.md");
  return [
    `# ${chart}`,
    `${description}. Kubernetes 1.29 or newer.`,
    "",
    "```sh",
    `helm install ${chart} charts/${chart} --namespace quartet --wait`,
    `helm test ${chart} --namespace quartet`,
    "```",
    "",
    ...(existsSync(extra) ? [readFileSync(extra, "utf8").trim(), ""] : []),
    "## Values",
    "This page and `values.schema.json` are written from `values.yaml` by `npm run generate`; the schema refuses a name that is not here.",
    "",
    "| value | default | |",
    "|---|---|---|",
    ...table,
    "",
  ].join("\n");
}

let stale = 0;
for (const chart of NAMES) {
  const document = parseDocument(readFileSync(join(charts, chart, "values.yaml"), "utf8"));
  const files = {
    "values.schema.json": schemaFile(chart, document.toJSON()),
    "README.md": readme(chart, document),
  };
  for (const [name, wanted] of Object.entries(files)) {
    const file = join(charts, chart, name);
    if (existsSync(file) && readFileSync(file, "utf8") === wanted) continue;
    stale++;
    if (process.argv.includes("--check")) process.stderr.write(`${chart}/${name} is not what values.yaml says\n`);
    else writeFileSync(file, wanted);
  }
}
if (process.argv.includes("--check") && stale > 0) process.exitCode = 1;
