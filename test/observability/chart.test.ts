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

it("its Prometheus labels every process as the operator's monitors do, and stays within its volume", () => {
  for (const job of parse(named("ConfigMap", "prometheus").data["prometheus.yml"]).scrape_configs) {
    expect(job.honor_labels).toBe(true);
    const given = Object.fromEntries(job.relabel_configs.map((c: Obj) => [c.target_label, c.replacement]));
    expect(given).toMatchObject({ service: job.job_name, part_of: "quartet", namespace: "ns" });
    expect(Object.keys(given)).toContain("pod");
  }
  const monitors = [...objects, ...render("user", ["--set", "serviceMonitor.enabled=true"])].filter(
    (o) => o.kind === "ServiceMonitor",
  );
  expect(monitors).toHaveLength(2);
  for (const { spec } of monitors) {
    const [endpoint] = spec.endpoints;
    expect(endpoint.honorLabels).toBe(true);
    expect(endpoint.relabelings.map((r: Obj) => r.targetLabel)).toEqual(["role", "service", "part_of"]);
  }
  const { containers, volumes } = named("Deployment", "prometheus").spec.template.spec;
  const size = /retention\.size=(\d+)B/.exec(containers[0].args.join(" "))![1];
  expect(volumes.find((v: Obj) => v.name === "data").emptyDir.sizeLimit).toBe("1Gi");
  expect(Number(size)).toBe(Math.floor(0.8 * 2 ** 30));
});

it("no alert of a service's own chart is one of these", () => {
  const alerts = (rendered: Obj[]) =>
    new Set(
      rendered
        .filter((o) => o.kind === "PrometheusRule")
        .flatMap((o) => o.spec.groups.flatMap((g: Obj) => g.rules.flatMap((r: Obj) => r.alert ?? []))),
    );
  const own = ["user", "session", "analytics", "search", "gateway"].flatMap((s) => [
    ...alerts(render(s, ["--set", "prometheusRule.enabled=true"])),
  ]);
  expect(own.length).toBeGreaterThan(10);
  expect([...alerts(objects)].filter((name) => own.includes(name))).toEqual([]);
});

it("where the runbooks can be read, every alert and every dashboard says so in full", () => {
  const url = "https://git.example.org/quartet/docs/runbooks";
  const known = render("quartet", [...enabled, "--set", `observability.runbooks=${url}`]);
  const rules = known
    .filter((o) => o.kind === "PrometheusRule")
    .flatMap((o) => o.spec.groups.flatMap((g: Obj) => g.rules))
    .filter((r: Obj) => r.alert);
  expect(rules.length).toBeGreaterThan(8);
  for (const { annotations } of rules)
    expect(annotations.runbook_url).toMatch(/^https:.*\/docs\/runbooks\/[\w-]+\.md$/);
  const files = known.find(
    (o) => o.kind === "ConfigMap" && o.metadata.name === "quartet-observability-prometheus",
  ).data;
  expect(files["rules-store-down.yaml"]).toContain(`runbook_url: ${url}/store-down.md`);
  const boards = known.filter((o) => o.kind === "ConfigMap" && o.metadata.labels.grafana_dashboard === "1");
  for (const { data } of boards) {
    const board = JSON.parse(Object.values<string>(data)[0]!);
    expect(board.links.map((l: Obj) => l.url)).toContain(url);
  }
});

it("a Prometheus of another namespace may read the figures", () => {
  for (const chart of ["user", "gateway", "nats"]) {
    const [policy] = render(chart).filter((o) => o.kind === "NetworkPolicy" && o.metadata.name === chart);
    const peers = policy.spec.ingress.flatMap((rule: Obj) => rule.from ?? []);
    expect(peers).toContainEqual({
      namespaceSelector: {},
      podSelector: { matchLabels: { "app.kubernetes.io/name": "prometheus" } },
    });
  }
});

it("is off in the umbrella unless it is asked for", () => {
  const names = render("quartet").map((o) => o.metadata.name);
  expect(names.filter((name) => name.includes("observability"))).toEqual([]);
});
