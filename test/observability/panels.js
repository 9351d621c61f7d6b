/**
 * Runs in a browser: draws one dashboard (`board`, as images.ts fills it) the way Grafana does, and with the same library for lines, uPlot. Units, mappings,
 * thresholds and legends are those of the panel.
 */
const COLORS = { green: "#56a64b", orange: "#ff780a", red: "#e02f44", blue: "#3274d9", purple: "#a352cc" };
const SERIES = "#56a64b #e0b400 #3274d9 #ff780a #e02f44 #1250b0 #a352cc #7c4dbf #37872d #b877d9 #8ab8ff #ad0317".split(" ");
const color = (name) => COLORS[name] ?? name;
const two = (value) => String(value).padStart(2, "0");

/** `value` over the largest of the steps that it reaches: 1536 of bytes is "1.5 KiB". */
function scaled(value, steps, digits) {
  const reached = steps.findLast(([size]) => Math.abs(value) >= size) ?? steps[0];
  const shown = value / reached[0];
  return `${Number(shown.toFixed(digits ?? (Math.abs(shown) < 10 ? 2 : Math.abs(shown) < 100 ? 1 : 0)))}${reached[1]}`;
}
const COUNT = [[1, ""], [1e3, " K"], [1e6, " Mil"], [1e9, " Bil"]];
const UNITS = {
  short: (v, d) => scaled(v, COUNT, d),
  s: (v, d) => (v === 0 ? "0 s" : scaled(v, [[1e-6, " µs"], [1e-3, " ms"], [1, " s"], [60, " min"], [3600, " hours"], [86400, " days"]], d)),
  bytes: (v, d) => scaled(v, [[1, " B"], [2 ** 10, " KiB"], [2 ** 20, " MiB"], [2 ** 30, " GiB"]], d),
  percentunit: (v, d) => scaled(v * 100, [[1, "%"]], d),
  ops: (v, d) => `${scaled(v, COUNT, d)} ops/s`,
  reqps: (v, d) => `${scaled(v, COUNT, d)} req/s`,
};

function element(parent, tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

const stepOf = (steps, value) => steps.findLast((step) => step.value === null || value >= step.value) ?? steps[0];

function drawStat(body, panel) {
  const tiles = panel.series.length > 0 ? panel.series : [{ values: [null] }];
  for (const { values } of tiles) {
    const value = values.at(-1);
    const tile = element(body, "div", "tile", value === null ? panel.noValue : format(panel)(value));
    tile.style.background = value === null ? "#808080" : color(stepOf(panel.steps, value).color);
  }
}

function drawStates(body, panel, board) {
  const span = board.to - board.from;
  const height = Math.min(40, (body.clientHeight - 20) / Math.max(1, panel.series.length));
  for (const { name, values } of panel.series) {
    const row = element(body, "div", "states");
    row.style.height = `${height}px`;
    element(row, "span", "label", name);
    const bar = element(row, "div", "bar");
    for (let i = 0; i < values.length; ) {
      let end = i + 1;
      while (end < values.length && values[end] === values[i]) end++;
      const shown = panel.words[String(values[i])];
      if (values[i] !== null) {
        const seconds = (board.times[end] ?? board.to) - board.times[i];
        const text = shown ? shown.text : String(values[i]);
        const fits = (seconds / span) * bar.clientWidth > 7 * text.length;
        const band = element(bar, "i", "", fits ? text : "");
        band.style.left = `${((board.times[i] - board.from) / span) * 100}%`;
        band.style.width = `${(seconds / span) * 100}%`;
        band.style.background = shown ? color(shown.color) : "#8e8e8e";
      }
      i = end;
    }
  }
  const axis = element(body, "div", "axis");
  for (let at = Math.ceil(board.from / 60) * 60; at < board.to; at += 60)
    element(axis, "span", "", clock(at)).style.left = `${((at - board.from) / span) * 100}%`;
}

const clock = (at) => `${two(new Date(at * 1000).getHours())}:${two(new Date(at * 1000).getMinutes())}`;
const format = (panel) => (value) => UNITS[panel.unit](value, panel.decimals);

/** Sums from the last series to the first, so that each line stands upon those after it. */
function stacked(series) {
  const sums = series.map(({ values }) => [...values]);
  for (let i = sums.length - 2; i >= 0; i--)
    sums[i] = sums[i].map((value, at) => (value === null && sums[i + 1][at] === null ? null : (value ?? 0) + (sums[i + 1][at] ?? 0)));
  return sums;
}

function drawSeries(body, panel, board) {
  const legend = element(body, "div", panel.legendRight ? "legend right" : "legend");
  panel.series.forEach(({ name }, i) => {
    element(legend, "i").style.background = SERIES[i % SERIES.length];
    element(legend, "span", "", name);
  });
  const data = panel.stack ? stacked(panel.series) : panel.series.map(({ values }) => values);
  const top = Math.max(...data.flat().filter((value) => value !== null));
  const limit = panel.dashed ? panel.steps.find((step) => step.value !== null && step.color !== "transparent") : undefined;
  const marks = (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.setLineDash([4, 4]);
    const line = (stroke, ...points) => {
      ctx.strokeStyle = stroke;
      ctx.beginPath();
      ctx.moveTo(points[0], points[1]);
      ctx.lineTo(points[2], points[3]);
      ctx.stroke();
    };
    for (const mark of board.marks)
      for (const at of mark.times) {
        const x = plot.valToPos(at, "x", true);
        line(color(mark.color), x, bbox.top, x, bbox.top + bbox.height);
      }
    if (limit) {
      const y = plot.valToPos(limit.value, "y", true);
      if (y >= bbox.top) line(color(limit.color), bbox.left, y, bbox.left + bbox.width, y);
    }
    ctx.restore();
  };
  const axis = { stroke: "#555", grid: { stroke: "#e6e6e6", width: 1 }, ticks: { show: false }, font: "11px sans-serif" };
  const holder = element(body, "div");
  body.prepend(holder);
  if (panel.legendRight) body.classList.add("beside");
  new uPlot(
    {
      width: body.clientWidth - (panel.legendRight ? legend.offsetWidth : 0),
      height: body.clientHeight - (panel.legendRight ? 0 : legend.offsetHeight),
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: true, range: [board.from, board.to] }, y: { range: [panel.min ?? 0, panel.max ?? (top > 0 ? top * 1.1 : 1)] } },
      axes: [
        { ...axis, size: 22, values: (_, ticks) => ticks.map(clock), incrs: [60] },
        {
          ...axis,
          size: 70,
          values: (_, ticks) => ticks.map(format(panel)),
          ...(panel.unit === "bytes" ? { incrs: Array.from({ length: 40 }, (_, power) => 2 ** power) } : {}),
        },
      ],
      series: [
        {},
        ...panel.series.map(({ name }, i) => ({
          stroke: SERIES[i % SERIES.length],
          width: panel.lineWidth,
          ...(name === "max"
            ? { dash: [6, 6] }
            : { fill: `${SERIES[i % SERIES.length]}${two(Math.round(panel.fill * 2.55).toString(16))}` }),
          points: { show: false },
          ...(panel.bars ? { paths: uPlot.paths.bars({ size: [0.9, 8] }) } : {}),
        })),
      ],
      hooks: { draw: [marks] },
    },
    [board.times, ...data],
    holder,
  );
}

const DRAW = { stat: drawStat, "state-timeline": drawStates, timeseries: drawSeries };

/** Draws the dashboard into the page. */
globalThis.draw = (board) => {
  const head = element(document.body, "header");
  element(head, "h1", "", board.title);
  const legend = element(head, "div", "marks");
  for (const mark of board.marks) {
    element(legend, "i").style.background = color(mark.color);
    element(legend, "span", "", mark.name);
  }
  for (const row of board.rows) {
    element(document.body, "h2", "", `${row.folded ? "▸" : "▾"} ${row.title}`);
    const grid = element(document.body, "section");
    const first = Math.min(...row.panels.map((panel) => panel.at.y));
    for (const panel of row.panels) {
      const frame = element(grid, "article");
      frame.style.gridArea = `${panel.at.y - first + 1} / ${panel.at.x + 1} / span ${panel.at.h} / span ${panel.at.w}`;
      element(frame, "h3", "", panel.title);
      const body = element(frame, "div", "body");
      if (panel.series.length === 0 && panel.type !== "stat") element(body, "p", "none", "No data");
      else DRAW[panel.type](body, panel, board);
    }
  }
};
