import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { parse } from "yaml";

export const chart = new URL("../../charts/observability/", import.meta.url).pathname;
export const runbooks = new URL("../../docs/runbooks/", import.meta.url).pathname;

export interface Rule {
  alert?: string;
  record?: string;
  expr: string;
  for?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

/** The rule files, by name without `.yaml`. */
export function ruleFiles(): Record<string, { text: string; rules: Rule[] }> {
  const files = readdirSync(join(chart, "alerts")).filter((name) => name.endsWith(".yaml"));
  return Object.fromEntries(
    files.map((file) => {
      const text = readFileSync(join(chart, "alerts", file), "utf8");
      return [basename(file, ".yaml"), { text, rules: parse(text).groups.flatMap((g: { rules: Rule[] }) => g.rules) }];
    }),
  );
}

/** The same rules with windows of seconds instead of hours, so that a test need not wait for them. Thresholds stay. */
export function shortened(text: string): string {
  const windows: Record<string, string> = { "6h": "30s", "1h": "20s", "30m": "10s", "5m": "6s" };
  return text
    .replace(/^(\s+for:) .*$/gm, "$1 2s")
    .replace(/\[(\w+)\]/g, (_, window: string) => `[${windows[window] ?? window}]`);
}

export interface DashboardQuery {
  dashboard: string;
  panel: string;
  expr: string;
  legend: string;
}

/** Every query of every panel, and of every mark, of the dashboards as committed. */
export function dashboardQueries(): { panels: DashboardQuery[]; marks: DashboardQuery[] } {
  const folder = join(chart, "files/dashboards");
  const panels: DashboardQuery[] = [];
  const marks: DashboardQuery[] = [];
  for (const file of readdirSync(folder)) {
    const board = JSON.parse(readFileSync(join(folder, file), "utf8"));
    const all = board.panels.flatMap((p: any) => [p, ...(p.panels ?? [])]);
    for (const panel of all) {
      for (const { expr, legendFormat } of panel.targets ?? []) {
        panels.push({ dashboard: board.uid, panel: panel.title, expr: filled(expr), legend: legendFormat });
      }
    }
    for (const { name, expr, textFormat } of board.annotations.list) {
      marks.push({ dashboard: board.uid, panel: name, expr: filled(expr), legend: textFormat });
    }
  }
  return { panels, marks };
}

/** What Grafana fills in. */
export function filled(expr: string, rateInterval = "15s"): string {
  return expr.replaceAll("$__rate_interval", rateInterval).replaceAll(/\$(namespace|pod)\b/g, ".*");
}

const WORDS = new Set("and or unless by without on ignoring group_left group_right offset bool inf nan".split(" "));

/** The selectors of a query: metric names with their matchers. */
export function selectors(expr: string): { name: string; selector: string }[] {
  const bare = expr
    .replace(/,\s*"[^"]*"/g, "")
    .replace(/\b(by|without|on|ignoring)\s*\([^)]*\)/g, "")
    .replace(/\[[^\]]*\]/g, "")
    .replace(/\d+(\.\d+)?(e\d+)?/g, (number, _a, _b, at: number, all: string) =>
      /[\w:]/.test(all[at - 1] ?? "") ? number : "0",
    );
  const found: { name: string; selector: string }[] = [];
  for (const match of bare.matchAll(/([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(\s*\()?/g)) {
    const [, name = "", matchers = "", call] = match;
    if (call || WORDS.has(name.toLowerCase())) continue;
    found.push({ name, selector: name + matchers });
  }
  return found;
}
