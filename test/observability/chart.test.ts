import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { type Obj, render } from "../charts/helm.ts";
import { findPrometheus } from "./prometheus.ts";
import { chart, ruleFiles } from "./sources.ts";

const tools = findPrometheus();
const parts = ["prometheus", "grafana", "prometheusRule", "serviceMonitor"];
const enabled = ["", ...parts.map((part) => `${part}.`)].flatMap((part) => [
  "--set",
  `observability.${part}enabled=true`,
]);
const objects = render("quartet", enabled);
const named = (kind: string, name: string): Obj => {
  const found = objects.find((o) => o.kind === kind && o.metadata.name === `quartet-observability-${name}`);
  expect(found, `${kind} ${name}`).toBeDefined();
  return found;
};

it("brings every dashboard where a Grafana looks for them, and every alert to the operator", () => {
  const boards = objects.filter((o) => o.kind === "ConfigMap" && o.metadata.labels.grafana_dashboard === "1");
  expect(boards.length).toBeGreaterThanOrEqual(8);
  for (const { data } of boards) {
    const [[name, text]] = Object.entries<string>(data) as [[string, string]];
    const file = join(chart, "files/dashboards", name.replace(/^quartet-/, ""));
    expect(JSON.parse(text)).toEqual(JSON.parse(readFileSync(file, "utf8")));
  }
  for (const [name, { text }] of Object.entries(ruleFiles())) {
    expect(named("PrometheusRule", name).spec).toEqual(parse(text));
  }
});

it.skipIf(!tools)("its Prometheus starts with the configuration, and finds every service of the release", () => {
  const { data } = named("ConfigMap", "prometheus");
  const folder = mkdtempSync(join(tmpdir(), "quartet-chart-"));
  try {
    for (const [name, text] of Object.entries<string>(data)) {
      writeFileSync(join(folder, name), text.replaceAll("/etc/prometheus", folder));
    }
    execFileSync(tools!.promtool, ["check", "config", join(folder, "prometheus.yml")], { stdio: "pipe" });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const services = new Set(objects.filter((o) => o.kind === "Service").map((o) => `${o.metadata.name}.ns.svc`));
  const jobs = parse(data["prometheus.yml"]).scrape_configs;
  expect(jobs.map((job: Obj) => job.job_name)).toEqual(["user", "session", "analytics", "search", "gateway"]);
  for (const { dns_sd_configs } of jobs) expect(services).toContain(dns_sd_configs[0].names[0]);
});

it("its Grafana asks that Prometheus, and mounts every dashboard there is", () => {
  const { data } = named("ConfigMap", "grafana");
  const [source] = parse(data["datasources.yaml"]).datasources;
  const { port } = named("Service", "prometheus").spec.ports[0];
  expect(source.url).toBe(`http://${named("Service", "prometheus").metadata.name}:${port}`);
  const { volumes } = named("Deployment", "grafana").spec.template.spec;
  const mounted = volumes.find((v: Obj) => v.name === "dashboards").projected.sources.map((s: Obj) => s.configMap.name);
  const made = objects.filter((o) => o.metadata.labels?.grafana_dashboard).map((o) => o.metadata.name);
  expect(mounted.sort()).toEqual(made.sort());
});

it("is off in the umbrella unless it is asked for", () => {
  const names = render("quartet").map((o) => o.metadata.name);
  expect(names.filter((name) => name.includes("observability"))).toEqual([]);
});
