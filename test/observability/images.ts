/**
 * `npm run dashboards:images`: what the dashboards show of a system under load and faults, as pictures in docs/screens/dashboards. A system of its own runs for
 * four minutes with a Prometheus; every panel is drawn from the answers to its own queries. The exit status is 1 if a panel has no data.
 */
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { kill, revive } from "@quartet/cli/control";
import { openBrowser } from "../browser/browser.ts";
import { Client } from "../lib/client.ts";
import { forget, launch } from "../lib/launch.ts";
import { startLoad } from "./load.ts";
import { findPrometheus, type Prometheus, SCRAPE_SECONDS, startPrometheus } from "./prometheus.ts";
import { chart, filled } from "./sources.ts";

type Json = any;
const folder = new URL("../../docs/screens/dashboards/", import.meta.url).pathname;
const STEP_SECONDS = SCRAPE_SECONDS;
/** What Grafana makes of `$__rate_interval` at this step. */
const RATE_INTERVAL = `${Math.max(STEP_SECONDS + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS)}s`;
const STYLE = `
  body { margin: 0; padding: 12px; width: 1376px; background: #f4f5f5; font: 12px sans-serif; color: #24292e }
  header { display: flex; justify-content: space-between; align-items: baseline } h1 { font-size: 18px; margin: 0 } h2 { font-size: 14px; margin: 10px 0 6px }
  section { display: grid; grid-template-columns: repeat(24, 1fr); grid-auto-rows: 22px; gap: 8px } article { background: #fff; border: 1px solid #ddd; display: flex;
    flex-direction: column; min-width: 0 } h3 { font-size: 12px; margin: 6px 8px 2px } .body { flex: 1; min-height: 0; margin: 0 6px 4px }
  .legend, .marks { display: flex; flex-wrap: wrap; align-items: center; gap: 0 4px; padding-left: 6px } .legend i, .marks i { width: 14px; height: 3px; margin-left: 6px }
  .beside { display: flex } .right { display: grid; grid-template-columns: 20px auto; align-content: start; width: 240px; overflow: hidden }
  .tile { height: 100%; display: flex; align-items: center; justify-content: center; color: #fff; font: 600 26px sans-serif } .none { text-align: center; color: #808080 }
  .states { display: flex; align-items: center } .label { width: 130px; padding-right: 6px; text-align: right; overflow: hidden; white-space: nowrap } .bar { flex: 1; position: relative;
    height: 86% } .bar i { position: absolute; top: 0; bottom: 0; overflow: hidden; color: #fff; font-style: normal; display: flex; align-items: center; justify-content: center;
    white-space: nowrap } .axis { position: relative; height: 16px; margin-left: 136px } .axis span { position: absolute; transform: translateX(-50%) }`;

const tools = findPrometheus();
if (!tools) process.exit(1);
mkdirSync(folder, { recursive: true });

/** Load and faults that every dashboard shows something of. Resolves to its beginning and end in seconds. */
async function live(client: Client, home: string): Promise<{ from: number; to: number }> {
  const loads = [1, 2, 3].map(() => startLoad(client));
  await sleep(40_000); // the first rates, and processes that have just started
  const from = Math.floor(Date.now() / 1000);
  await sleep(40_000);
  await kill(home, "clickhouse", { hold: true });
  await sleep(30_000);
  revive(home, "clickhouse");
  await sleep(40_000);
  await client.post("/v1/admin/rebuilds", { store: "search" }, { token: client.operatorToken });
  await sleep(15_000);
  await kill(home, "nats", { hold: true });
  await sleep(15_000);
  revive(home, "nats");
  await sleep(60_000);
  for (const load of loads) await load.stop();
  return { from, to: Math.floor(Date.now() / 1000) };
}

/** The legend of a series, as Grafana fills it in. */
const named = (legend: string, metric: Record<string, string>) =>
  legend.replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? "");

/** A panel with its data: one value for each of `times`, null where there is none. */
async function withData(prometheus: Prometheus, panel: Json, times: number[]): Promise<Json> {
  const { defaults } = panel.fieldConfig;
  const [from, to] = [times[0]!, times.at(-1)!];
  const series: { name: string; values: (number | null)[] }[] = [];
  for (const { expr, legendFormat, instant } of panel.targets) {
    const found = await prometheus.range(filled(expr, RATE_INTERVAL), instant ? to : from, to, STEP_SECONDS);
    for (const { metric, values } of found) {
      const at = new Map(values.map(([time, value]) => [time, Number(value)]));
      const line = times.map((time) => (Number.isFinite(at.get(time)) ? at.get(time)! : null));
      series.push({ name: named(legendFormat, metric), values: line });
    }
  }
  const { custom = {} } = defaults;
  return {
    type: panel.type,
    title: panel.title,
    at: panel.gridPos,
    unit: defaults.unit ?? "short",
    decimals: defaults.decimals,
    min: defaults.min,
    max: defaults.max,
    noValue: defaults.noValue,
    steps: defaults.thresholds?.steps ?? [{ value: null, color: "green" }],
    words: Object.assign({}, ...(defaults.mappings ?? []).map((m: Json) => (m.type === "value" ? m.options : {}))),
    legendRight: panel.options?.legend?.placement === "right",
    lineWidth: custom.lineWidth,
    fill: custom.fillOpacity,
    bars: custom.drawStyle === "bars",
    stack: custom.stacking?.mode === "normal",
    dashed: custom.thresholdsStyle?.mode === "dashed",
    series,
  };
}

/** When a mark is drawn: the beginning of each span in which its query has a value above 0. */
async function markTimes(prometheus: Prometheus, expr: string, from: number, to: number): Promise<number[]> {
  const found = await prometheus.range(filled(expr, RATE_INTERVAL), from, to, STEP_SECONDS);
  return found.flatMap(({ values }) =>
    values.filter(([at], i) => at - (values[i - 1]?.[0] ?? 0) > 2 * STEP_SECONDS).map(([at]) => at),
  );
}

const system = await launch({ env: { AUDIT_INTERVAL_MS: "20000" } });
const { services } = JSON.parse(readFileSync(join(system.home, "run.json"), "utf8"));
const targets = Object.entries<{ adminPort: number }>(services).map(([name, { adminPort }]) => [
  name,
  `127.0.0.1:${adminPort}`,
]);
const prometheus = await startPrometheus(tools, Object.fromEntries(targets), {});
const browser = await openBrowser();
try {
  const { from, to } = await live(new Client(system.url, system.operatorToken), system.home);
  const times = Array.from({ length: Math.floor((to - from) / STEP_SECONDS) + 1 }, (_, i) => from + i * STEP_SECONDS);
  const uplot = fileURLToPath(import.meta.resolve("uplot/dist/uPlot.iife.min.js"));
  for (const file of readdirSync(join(chart, "files/dashboards"))) {
    const source: Json = JSON.parse(readFileSync(join(chart, "files/dashboards", file), "utf8"));
    const rows: { title: string; folded: boolean; panels: Json[] }[] = [];
    for (const panel of source.panels) {
      if (panel.type === "row") rows.push({ title: panel.title, folded: panel.collapsed, panels: [] });
      for (const each of panel.type === "row" ? (panel.panels ?? []) : [panel]) {
        const made = await withData(prometheus, each, times);
        rows.at(-1)!.panels.push(made);
        if (made.series.some((s: Json) => s.values.some((value: unknown) => value !== null))) continue;
        console.error(`no data: ${file}, ${each.title}`);
        process.exitCode = 1;
      }
    }
    const marks = [];
    for (const { name, expr, iconColor } of source.annotations.list)
      marks.push({ name, color: iconColor, times: await markTimes(prometheus, expr, from, times.at(-1)!) });
    const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
    await page.setContent(`<style>${STYLE}${readFileSync(uplot.replace("iife.min.js", "min.css"), "utf8")}</style>`);
    await page.addScriptTag({ path: uplot });
    await page.addScriptTag({ path: join(import.meta.dirname, "panels.js"), type: "module" });
    await page.waitForFunction("globalThis.draw");
    await page.evaluate(`draw(${JSON.stringify({ title: source.title, from, to: times.at(-1), times, marks, rows })})`);
    await page.screenshot({ path: join(folder, file.replace(".json", ".png")), fullPage: true });
    await page.close();
  }
} finally {
  await browser.close();
  await prometheus.stop();
  await system.stop();
  forget(system.home);
}
