import { DECLARED, ENDPOINTS, STORES } from "../availability.ts";
import type { ExperimentResult, RunResult } from "../run.ts";
import { escapeHtml } from "./escape.ts";
import { chart, heat } from "./svg.ts";
import type { Timeline } from "./timeline.ts";

/** The whole report as one page that needs nothing else: no script, no font, no image from elsewhere. */
export function toHtml(result: RunResult, timelines: ReadonlyMap<string, Timeline>): string {
  const held = result.experiments.filter((e) => !e.skipped && isGood(e)).length;
  const ran = result.experiments.filter((e) => !e.skipped).length;
  const command = `npm run chaos -- ${result.suite === "quick" ? "--quick " : ""}--seed ${result.seed}`;
  const verdict = !result.passed
    ? "Not every invariant held"
    : result.patient
      ? "Every invariant about the data held"
      : "Every invariant held";
  const patience = result.patient
    ? ` The machine did other work meanwhile: what the clock decides (availability, lateness) was measured and <b>not judged</b>; it is marked ~.`
    : "";
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Quartet under fire: ${result.passed ? "everything held" : "something broke"}</title>
<style>${STYLE}</style></head><body><main>
<header>
<p class="verdict ${result.passed ? "good" : "bad"}">${verdict}</p>
<h1>Quartet under fire</h1>
<p class="lead">${held} of ${ran} experiments held. ${result.requests.toLocaleString("en")} requests by concurrent clients, ${result.users.toLocaleString("en")} people,
${Math.round(result.seconds / 6) / 10} minutes, ${escapeHtml(result.startedAt.slice(0, 16).replace("T", " "))} UTC. Same experiments again: <code>${command}</code>.${patience}</p>
</header>
${summary(result)}
<h2>What answers without which store</h2>
<p>Measured while exactly one store was away (killed, frozen or cut off). Derived answers go on without PostgreSQL and without NATS, and stand still: their
<code>Quartet-As-Of</code> says since when.</p>
${matrix(result)}
<h2>Experiments</h2>
<p>Under each: every endpoint over time (a column is half a second), requests answered and their latency, how old each read model is, and the verdicts. The shaded
part is the fault; the dashed line is where the system said that it was well again.</p>
${legend()}
${result.experiments.map((e) => experiment(e, timelines.get(e.name))).join("\n")}
</main></body></html>
`;
}

const isGood = (e: ExperimentResult): boolean => !e.error && e.verdicts.every((v) => v.violations.length === 0);

function summary(result: RunResult): string {
  const names = new Map<string, { says: string; checked: number; bad: number; notJudged: number }>();
  for (const { verdicts } of result.experiments) {
    for (const verdict of verdicts) {
      const entry = names.get(verdict.invariant) ?? { says: verdict.says, checked: 0, bad: 0, notJudged: 0 };
      // Each check judges all that has happened so far: the figures of two of them do not add up.
      entry.checked = Math.max(entry.checked, verdict.checked);
      entry.bad += verdict.violations.length;
      entry.notJudged += verdict.notJudged?.length ?? 0;
      names.set(verdict.invariant, entry);
    }
  }
  const m = result.matrixVerdict;
  names.set(m.invariant, {
    says: m.says,
    checked: m.checked,
    bad: m.violations.length,
    notJudged: m.notJudged?.length ?? 0,
  });
  const rows = [...names].map(
    ([name, { says, checked, bad, notJudged }]) =>
      `<tr><td>${mark(bad === 0, notJudged)}</td><td><b>${name}</b><br><span class="says">${escapeHtml(says)}</span></td><td class="n">${checked.toLocaleString("en")}</td><td class="n">${bad}${notJudged ? `<br><span class="says">${notJudged} not judged</span>` : ""}</td></tr>`,
  );
  return `<h2>Invariants</h2><div class="wide"><table><thead><tr><th></th><th>what must hold</th><th class="n">compared at once</th><th class="n">violations</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
}

function matrix(result: RunResult): string {
  const head = STORES.map((store) => `<th>${store}</th>`).join("");
  const rows = ENDPOINTS.map((endpoint) => {
    const cells = STORES.map((store) => {
      const level = result.matrix[endpoint]?.[store];
      const declared = DECLARED[endpoint][store];
      const text = level ?? "not measured";
      const differs = level !== undefined && level !== declared ? ` (declared ${declared})` : "";
      return `<td><span class="level l-${level ?? "none"}">${text}${differs}</span></td>`;
    });
    return `<tr><th scope="row"><code>${escapeHtml(endpoint)}</code></th>${cells.join("")}</tr>`;
  });
  return `<div class="wide"><table class="matrix"><thead><tr><th></th>${head}</tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
}

function legend(): string {
  const items = [
    ["full", "answered"],
    ["degraded", "answered with less"],
    ["refusing", "503 in time"],
    ["failing", "no answer, or later than 2 s"],
  ].map(([kind, text]) => `<span><i class="k k-${kind}"></i>${text}</span>`);
  return `<p class="legend">${items.join("")}</p>`;
}

function experiment(e: ExperimentResult, timeline: Timeline | undefined): string {
  if (e.skipped) {
    return `<details class="experiment"><summary><b>${escapeHtml(e.name)}</b> <span class="says">left out: ${escapeHtml(e.skipped)}</span></summary><p>${escapeHtml(e.hypothesis)}</p></details>`;
  }
  const { fault } = e;
  const told = fault
    ? `broken for ${seconds(fault.to - fault.from)}, well again ${seconds(fault.until - fault.to)} later; everything equal ${seconds(e.convergedMs ?? 0)} after the last write`
    : "";
  const verdicts = e.verdicts
    .map((v) => {
      const list = [...v.violations, ...(v.notJudged ?? []).map((text) => `not judged: ${text}`)]
        .map((text) => `<li>${escapeHtml(text)}</li>`)
        .join("");
      return `<li>${mark(v.violations.length === 0, v.notJudged?.length)} <b>${v.invariant}</b> <span class="says">${v.checked.toLocaleString("en")} compared</span>${list ? `<ul>${list}</ul>` : ""}</li>`;
    })
    .join("");
  const error = e.error ? `<pre>${escapeHtml(e.error)}</pre>` : "";
  return `<details class="experiment" ${isGood(e) ? "" : "open"}><summary>${mark(isGood(e))} <b>${escapeHtml(e.name)}</b> <span class="says">${told}</span></summary>
<p>${escapeHtml(e.hypothesis)}</p>${error}${timeline ? drawings(timeline) : ""}<ul class="verdicts">${verdicts}</ul></details>`;
}

function drawings(t: Timeline): string {
  const x = (i: number): number => i * t.binSeconds;
  const points = (values: (number | null)[]): [number, number][] =>
    values.flatMap((v, i): [number, number][] => (v === null ? [] : [[x(i), v]]));
  const rows = t.endpoints.map(
    (e) =>
      `<tr><td><code>${escapeHtml(e.endpoint)}</code></td><td class="n">${e.steady.perSecond}</td><td class="n">${e.broken.perSecond}</td><td class="n">${ms(e.steady.p50)}</td><td class="n">${ms(e.broken.p50)}</td><td class="n">${ms(e.steady.p99)}</td><td class="n">${ms(e.broken.p99)}</td><td class="n">${percent(e.broken.answered)}</td></tr>`,
  );
  return `<div class="charts">
${heat(t)}
${chart("requests a second", t, [
  { name: "answered", points: points(t.answered), series: 1 },
  { name: "not answered", points: points(t.unanswered), series: 2 },
])}
${chart("latency, 99th percentile, ms", t, [{ name: "p99", points: points(t.p99), series: 3 }])}
${chart(
  "age of each read model, s",
  t,
  Object.entries(t.staleness).map(([name, p], i) => ({ name, points: p, series: i + 3 })),
)}
${chart(
  "events each projector is behind",
  t,
  Object.entries(t.lag).map(([name, p], i) => ({ name, points: p, series: i + 3 })),
)}
</div>
<details><summary>by endpoint</summary><div class="wide"><table><thead><tr><th>endpoint</th><th class="n" colspan="2">requests/s<br>steady, broken</th><th class="n" colspan="2">median of the answered, ms<br>steady, broken</th><th class="n" colspan="2">p99, ms<br>steady, broken</th><th class="n">answered while broken</th></tr></thead><tbody>${rows.join("")}</tbody></table></div></details>`;
}

const mark = (good: boolean, notJudged = 0): string =>
  good && notJudged > 0
    ? '<span class="mark open">~</span>'
    : `<span class="mark ${good ? "good" : "bad"}">${good ? "✓" : "✗"}</span>`;
const seconds = (value: number): string => `${(value / 1000).toFixed(1)} s`;
const ms = (value: number | null): string => (value === null ? "–" : String(Math.round(value)));
const percent = (value: number): string => `${(value * 100).toFixed(value === 1 || value === 0 ? 0 : 1)} %`;

const STYLE = `
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--text:#1c1e21;--dim:#667;--line:#e3e3df;--good:#12805c;--bad:#c2361b;--fault:#c2361b1a;
--full:#7fc8a9;--degraded:#e8c35a;--refusing:#e08a4b;--failing:#b3261e;--s1:#12805c;--s2:#c2361b;--s3:#2f6fd0;--s4:#9a5bc4;--s5:#c07a1a}
@media (prefers-color-scheme:dark){:root{--bg:#15171a;--card:#1d2024;--text:#e7e8ea;--dim:#9aa2ab;--line:#33383e;--good:#4fc79a;--bad:#ff7a5c;--fault:#ff7a5c24;
--full:#2f7d60;--degraded:#a9862a;--refusing:#b9642c;--failing:#e5483d;--s1:#4fc79a;--s2:#ff7a5c;--s3:#7cacff;--s4:#c79bea;--s5:#e3a857}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:2rem;margin:.2rem 0}h2{margin:2.4rem 0 .6rem;font-size:1.25rem}
.lead{font-size:1.05rem;max-width:70ch}.verdict{display:inline-block;margin:0;padding:.15rem .7rem;border-radius:1rem;font-weight:600;color:#fff}
.verdict.good{background:#12805c}.verdict.bad{background:#c2361b}.says{color:var(--dim);font-weight:400}
table{border-collapse:collapse;width:100%;background:var(--card);font-size:.9rem}th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
thead th{color:var(--dim);font-weight:600;font-size:.8rem}.n{text-align:right;font-variant-numeric:tabular-nums}.wide{overflow-x:auto}
code{font:0.86em ui-monospace,monospace}.mark{font-weight:700}.mark.good{color:var(--good)}.mark.bad{color:var(--bad)}.mark.open{color:var(--dim)}
.matrix th[scope]{font-weight:400;white-space:nowrap}.level{display:block;padding:.05rem .5rem;border-radius:.3rem;text-align:center}
.l-full{background:color-mix(in srgb,var(--full) 35%,transparent)}.l-degraded{background:color-mix(in srgb,var(--degraded) 45%,transparent)}
.l-503{background:color-mix(in srgb,var(--refusing) 45%,transparent)}.l-mixed{background:var(--failing);color:#fff}.l-none{color:var(--dim)}
.experiment{background:var(--card);border:1px solid var(--line);border-radius:.5rem;margin:.5rem 0;padding:.6rem .9rem}summary{cursor:pointer}
.charts svg{display:block;width:100%;height:auto;margin:.7rem 0}.charts text{fill:var(--dim);font:11px system-ui,sans-serif}.charts .name{fill:var(--text)}
.grid{stroke:var(--line);stroke-width:1}.fault{fill:var(--fault)}.well{stroke:var(--dim);stroke-dasharray:4 3}
.c-full{fill:var(--full)}.c-degraded{fill:var(--degraded)}.c-refusing{fill:var(--refusing)}.c-failing{fill:var(--failing)}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.verdicts{list-style:none;padding:0;columns:2 26rem}.verdicts ul{color:var(--bad);font-size:.85rem}
.legend span{margin-right:1.2rem}.k{display:inline-block;width:.9rem;height:.9rem;border-radius:.2rem;margin-right:.35rem;vertical-align:-.1rem}
.k-full{background:var(--full)}.k-degraded{background:var(--degraded)}.k-refusing{background:var(--refusing)}.k-failing{background:var(--failing)}
pre{overflow:auto;background:var(--bg);padding:.6rem;border-radius:.3rem}`;
