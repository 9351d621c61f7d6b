import { el, num, svg } from "./dom.js";

/** Small SVG charts. Each has its figures in words for who does not see it, and as a table for who wants them. */
const W = 560;
const H = 170;
const weekMs = 7 * 86_400_000;
const pad = { l: 40, r: 8, t: 10, b: 24 };

function nice(top) {
  if (top <= 4) return 4;
  const unit = 10 ** Math.floor(Math.log10(top));
  return [1, 2, 2.5, 5, 10].map((n) => n * unit).find((n) => n >= top);
}

function figure(title, from, picture, summary, table) {
  return el("figure", { class: "chart" }, el("figcaption", {}, el("h3", {}, title, " ", el("small", {}, from)), el("p", { class: "note" }, summary)), picture, el("details", {}, el("summary", {}, "Figures"), table));
}

function tableOf(head, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures" }, el("table", {}, el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell)))))));
}

/** A series of counts as bars. `label(at)` names a point. */
export function barChart(title, from, series, field, label, summary) {
  const top = nice(Math.max(1, ...series.map((point) => point[field])));
  const step = (W - pad.l - pad.r) / Math.max(1, series.length);
  const height = H - pad.t - pad.b;
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}: ${summary}` });
  for (const part of [0, 0.5, 1]) {
    const y = pad.t + height * (1 - part);
    const tick = svg("text", { x: pad.l - 6, y: y + 4, "text-anchor": "end" });
    tick.textContent = num(top * part);
    picture.append(svg("line", { x1: pad.l, x2: W - pad.r, y1: y, y2: y, class: "grid" }), tick);
  }
  const every = Math.ceil(series.length / 7);
  for (const [i, point] of series.entries()) {
    const h = (point[field] / top) * height;
    const x = pad.l + i * step;
    const bar = svg("rect", { x: x + step * 0.12, y: pad.t + height - h, width: Math.max(1, step * 0.76), height: h, rx: Math.min(3, step * 0.2), class: "bar" });
    const title = svg("title");
    title.textContent = `${label(point.at)}: ${num(point[field])}`;
    bar.append(title);
    picture.append(bar);
    if (i % every === 0) {
      const name = svg("text", { x: x + step / 2, y: H - 7, "text-anchor": "middle" });
      name.textContent = label(point.at);
      picture.append(name);
    }
  }
  return figure(title, from, picture, summary, tableOf(["From", "Count"], series.map((point) => [label(point.at), num(point[field])])));
}

/** A funnel: one bar a step, as wide as the share of the first. */
export function funnelChart(title, from, steps, summary) {
  const first = Math.max(1, steps[0]?.users ?? 0);
  const row = 34;
  const picture = svg("svg", { viewBox: `0 0 ${W} ${steps.length * row + 4}`, role: "img", "aria-label": `${title}: ${summary}` });
  for (const [i, step] of steps.entries()) {
    const name = svg("text", { x: 0, y: i * row + 21 });
    name.textContent = step.name;
    const width = ((W - 215) * step.users) / first;
    const share = svg("text", { x: 118 + width + 8, y: i * row + 21 });
    share.textContent = `${num(step.users)} (${Math.round((100 * step.users) / first)} %)`;
    picture.append(name, svg("rect", { x: 110, y: i * row + 5, width: Math.max(2, width), height: row - 12, rx: 4, class: `bar step-${i}` }), share);
  }
  return figure(title, from, picture, summary, tableOf(["Step", "People"], steps.map((step) => [step.name, num(step.users)])));
}

/** Retention: one row a cohort, one cell a week, darker the more came back; the share is written into it. */
export function retentionTable(title, from, cohorts, label, summary) {
  const weeks = Math.max(0, ...cohorts.map((cohort) => cohort.active.length));
  const head = el("tr", {}, el("th", { scope: "col" }, "Week of"), el("th", { scope: "col" }, "People"), Array.from({ length: weeks }, (_, i) => el("th", { scope: "col" }, `+${i}`)));
  const rows = cohorts.map((cohort) =>
    el("tr", {}, el("th", { scope: "row" }, label(cohort.at)), el("td", {}, num(cohort.size)), Array.from({ length: weeks }, (_, i) => {
      const n = cohort.active[i];
      if (n === undefined || cohort.size === 0 || Date.parse(cohort.at) + i * weekMs > Date.now()) return el("td", { class: "none" }, "");
      const share = Math.round((100 * n) / cohort.size);
      return el("td", { class: `heat heat-${Math.min(5, Math.ceil(share / 20))}` }, `${share}%`);
    })));
  return el("figure", { class: "chart wide" }, el("figcaption", {}, el("h3", {}, title, " ", el("small", {}, from)), el("p", { class: "note" }, summary)), el("div", { class: "scroll all", tabindex: "0", role: "region", "aria-label": title }, el("table", { class: "retention" }, el("thead", {}, head), el("tbody", {}, rows))));
}
