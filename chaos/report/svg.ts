import { escapeHtml } from "./escape.ts";
import type { Cell, Timeline } from "./timeline.ts";

const WIDTH = 1000;
const LEFT = 210;
const RIGHT = 12;
const ROW = 16;

export interface Line {
  name: string;
  /** Seconds and value. */
  points: [number, number][];
  /** Which of the page's colours, 1 to 5. */
  series: number;
}

const across = (t: Timeline, second: number): number => LEFT + (second / t.seconds) * (WIDTH - LEFT - RIGHT);

function frame(t: Timeline, top: number, bottom: number): string {
  const [from, to, until] = [t.fault.from, t.fault.to, t.fault.until].map((s) =>
    across(t, Math.min(s, t.seconds)).toFixed(1),
  );
  return `<rect class="fault" x="${from}" y="${top}" width="${(Number(to) - Number(from)).toFixed(1)}" height="${bottom - top}"/><line class="well" x1="${until}" x2="${until}" y1="${top}" y2="${bottom}"/>`;
}

function seconds(t: Timeline, y: number): string {
  const step = t.seconds > 60 ? 10 : t.seconds > 24 ? 5 : 2;
  let marks = "";
  for (let s = 0; s < t.seconds; s += step)
    marks += `<text x="${across(t, s).toFixed(1)}" y="${y}" text-anchor="middle">${s}</text>`;
  return marks;
}

/** Every endpoint as a row, every half second as a cell. */
export function heat(t: Timeline): string {
  const height = t.endpoints.length * ROW + 22;
  const rows = t.endpoints.map(({ endpoint, cells }, row) => {
    const y = row * ROW + 2;
    const label = `<text class="name" x="${LEFT - 8}" y="${y + 11}" text-anchor="end">${escapeHtml(endpoint)}</text>`;
    return (
      label +
      runs(cells)
        .map(({ from, to, cell }) => bar(t, from, to, cell, y))
        .join("")
    );
  });
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="each endpoint over time">${rows.join("")}${frame(t, 0, height - 20)}${seconds(t, height - 5)}</svg>`;
}

function bar(t: Timeline, from: number, to: number, cell: Cell, y: number): string {
  const x = across(t, from * t.binSeconds);
  const width = across(t, to * t.binSeconds) - x;
  return `<rect class="c-${cell}" x="${x.toFixed(1)}" y="${y}" width="${Math.max(1, width - 0.6).toFixed(1)}" height="${ROW - 3}"/>`;
}

/** Neighbours that are alike as one; a bin without a request belongs to the one before it. */
function runs(cells: (Cell | null)[]): { from: number; to: number; cell: Cell }[] {
  const found: { from: number; to: number; cell: Cell }[] = [];
  cells.forEach((cell, i) => {
    const last = found.at(-1);
    if (last && (cell === null || cell === last.cell)) last.to = i + 1;
    else if (cell !== null) found.push({ from: i, to: i + 1, cell });
  });
  return found;
}

/** Lines over time, from zero, with the fault shaded. */
export function chart(title: string, t: Timeline, lines: Line[]): string {
  const height = 120;
  const top = 10;
  const bottom = height - 20;
  const highest = Math.max(1e-9, ...lines.flatMap((line) => line.points.map(([, v]) => v)));
  const limit = niceAbove(highest);
  const y = (value: number): number => bottom - (value / limit) * (bottom - top);
  const grid = [0, 0.5, 1].map((part) => {
    const at = y(limit * part).toFixed(1);
    return `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}"/><text x="${LEFT - 8}" y="${Number(at) + 4}" text-anchor="end">${short(limit * part)}</text>`;
  });
  const drawn = lines.map(({ points, series }) => {
    const path = points.map(([s, v]) => `${across(t, s).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
    return `<polyline class="line" style="stroke:var(--s${series})" points="${path}"/>`;
  });
  const names = lines.map(
    ({ name, series }, i) =>
      `<circle cx="8" cy="${40 + i * 17}" r="4" style="fill:var(--s${series})"/><text class="name" x="18" y="${44 + i * 17}">${escapeHtml(name)}</text>`,
  );
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escapeHtml(title)}"><text class="name" x="0" y="18" font-weight="600">${escapeHtml(title)}</text>${names.join("")}${frame(t, top, bottom)}${grid.join("")}${drawn.join("")}${seconds(t, height - 5)}</svg>`;
}

function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  for (const factor of [1, 2, 5, 10]) if (factor * power >= value) return factor * power;
  return value;
}

const short = (value: number): string => (value >= 1000 ? `${value / 1000}k` : String(Math.round(value * 100) / 100));
