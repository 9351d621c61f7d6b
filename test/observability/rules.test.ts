import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { catalogue, type MetricDefinition } from "@quartet/service";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { findPrometheus } from "./prometheus.ts";
import { chart, dashboardQueries, ruleFiles, runbooks, selectors } from "./sources.ts";

const root = new URL("../..", import.meta.url).pathname;
const tools = findPrometheus();
const run = (command: string, args: string[]) =>
  execFileSync(command, args, { cwd: root, encoding: "utf8", stdio: "pipe" });
const files = ruleFiles();
const alerts = Object.entries(files).filter(([name]) => name !== "recording");

/** What the kubelet tells of volumes: there in a cluster alone. */
const KUBELET = ["kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"];

/** Every name that a process of Quartet, or Prometheus itself, gives to a series. */
function known(): Set<string> {
  const page = readFileSync(join(root, "docs/metrics.md"), "utf8");
  const names = new Set([
    "up",
    ...KUBELET,
    ...Array.from(page.matchAll(/^\| `(\w+)` \|/gm), (match) => match[1] as string),
  ]);
  for (const [name, { type }] of Object.entries(catalogue) as [string, MetricDefinition][]) {
    if (type === "histogram") for (const suffix of ["bucket", "count", "sum"]) names.add(`${name}_${suffix}`);
  }
  for (const rule of Object.values(files).flatMap((file) => file.rules)) if (rule.record) names.add(rule.record);
  return names;
}

describe("what is written from code", () => {
  it("docs/metrics.md is the catalogue (else: npm run generate)", () => {
    run(process.execPath, ["packages/service/src/generate.ts", "--check"]);
  });
  it("the dashboards are what their sources say (else: npm run generate)", () => {
    run(process.execPath, ["charts/observability/generate.ts", "--check"]);
  });
});

describe("the catalogue", () => {
  it("names metrics as Prometheus asks for: base units, total for counters and for nothing else", () => {
    for (const [name, { type, help }] of Object.entries(catalogue) as [string, MetricDefinition][]) {
      expect(name).toMatch(/^quartet_[a-z]+(_[a-z]+)*$/);
      expect(name.endsWith("_total"), name).toBe(type === "counter");
      expect(name).not.toMatch(/_(ms|millis|milliseconds|kb|mb|percent)(_|$)/);
      expect(help.length, name).toBeGreaterThan(10);
    }
  });
});

describe("queries", () => {
  const { panels, marks } = dashboardQueries();
  it("name only metrics that exist, and every alert one of ours", () => {
    const names = known();
    for (const { dashboard, panel, expr } of [...panels, ...marks]) {
      for (const { name } of selectors(expr)) expect(names, `${dashboard}, ${panel}: ${expr}`).toContain(name);
    }
    for (const [file, { rules }] of Object.entries(files)) {
      for (const rule of rules) {
        const used = selectors(rule.expr);
        expect(used.length, file).toBeGreaterThan(0);
        for (const { name } of used) expect(names, `${file}: ${rule.expr}`).toContain(name);
      }
    }
  });
  it("look at every figure of the catalogue somewhere", () => {
    const used = new Set([...panels, ...marks].flatMap(({ expr }) => selectors(expr).map(({ name }) => name)));
    const seen = (name: string) => [name, `${name}_bucket`, `${name}_count`].some((n) => used.has(n));
    const unseen = Object.keys(catalogue).filter((name) => !seen(name));
    // These are for whoever looks for a cause by hand, or stand behind an alert.
    const byHand = ["http_requests_in_flight", "outbox_duplicates_total", "outbox_resent_total", "audit_mended_total"];
    const more = ["worker_crashes_total", "outbox_slot_headroom_bytes"];
    expect(unseen.sort()).toEqual([...byHand, ...more].map((name) => `quartet_${name}`).sort());
  });
});

describe("alerts", () => {
  it("are one to a file, each with a page and a unit test", () => {
    const pages = readdirSync(runbooks).filter((name) => name !== "README.md");
    expect(pages.sort()).toEqual(alerts.map(([name]) => `${name}.md`).sort());
    for (const [name, { rules }] of alerts) {
      expect(new Set(rules.map((rule) => rule.alert)).size, name).toBe(1);
      expect(existsSync(join(chart, "alerts/tests", `${name}.test.yaml`)), name).toBe(true);
      expect(readFileSync(join(runbooks, `${name}.md`), "utf8")).toMatch(`# ${rules[0]?.alert}`);
      for (const { labels, annotations } of rules) {
        expect(["critical", "warning"]).toContain(labels?.severity);
        expect(annotations).toMatchObject({ summary: expect.any(String), runbook: `docs/runbooks/${name}.md` });
      }
    }
  });
  it.skipIf(!tools)("satisfy promtool check rules", () => {
    const paths = Object.keys(files).map((name) => join(chart, "alerts", `${name}.yaml`));
    run(tools!.promtool, ["check", "rules", "--lint=all", "--lint-fatal", ...paths]);
  });
  it.skipIf(!tools).each(alerts.map(([name]) => name))("promtool test rules: %s", (name) => {
    run(tools!.promtool, ["test", "rules", join(chart, "alerts/tests", `${name}.test.yaml`)]);
  });
  it.skipIf(!tools).each(alerts.map(([name]) => name))("%s in one namespace says so while another is well", (name) => {
    const file = parse(readFileSync(join(chart, "alerts/tests", `${name}.test.yaml`), "utf8"));
    const inNamespace = (series: string, namespace: string) =>
      series.includes("{") ? series.replace("{", `{namespace="${namespace}", `) : `${series}{namespace="${namespace}"}`;
    // Every series begins well and stays so in staging.
    const well = (values: string) => `${/^[\d.e]+/.exec(values)![0]}x1000`;
    file.rule_files = file.rule_files.map((rules: string) => join(chart, "alerts/tests", rules));
    for (const test of file.tests) {
      test.input_series = test.input_series.flatMap(({ series, values }: Record<string, string>) => [
        { series: inNamespace(series!, "production"), values },
        { series: inNamespace(series!, "staging"), values: well(values!) },
      ]);
      for (const { exp_alerts } of test.alert_rule_test) {
        for (const { exp_labels, exp_annotations } of exp_alerts) {
          exp_labels.namespace = "production";
          exp_annotations.summary += " in production";
        }
      }
    }
    // Where nothing is seen at all there is no namespace either.
    file.tests = file.tests.filter((test: { name: string }) => test.name !== "nothing is seen at all");
    const folder = mkdtempSync(join(tmpdir(), "quartet-rules-"));
    try {
      writeFileSync(join(folder, "two.test.yaml"), JSON.stringify(file));
      run(tools!.promtool, ["test", "rules", join(folder, "two.test.yaml")]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
