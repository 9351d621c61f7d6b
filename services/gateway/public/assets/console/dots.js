import { $ } from "./dom.js";
import { wires } from "./diagram.js";

/**
 * The moving dots: one canvas over the diagram. Sightings come counted by tenths of a second; each becomes at most three dots, larger the more
 * events it stands for, and on each wire they keep a distance, so that a thousand events a second cost no more to draw than fifty. Drawn at
 * 24 frames a second, only where something moved, and not at all while nothing moves or nobody looks.
 */
const gapPx = 15;
/** A dot that would have to wait longer than this for its turn is left out. */
const patienceMs = 350;
const frameMs = 41;
const travelMs = 850;
/** A sighting is shown this long after it happened: by then the others that belong to it have been heard of too, and are shown in order. */
const delayMs = 900;

const still = matchMedia("(prefers-reduced-motion: reduce)");
const groups = [["heartbeat", "beat"], ["session", "session"], ["track", "track"]];
const groupOf = (kind) => groups.find(([prefix]) => kind.startsWith(prefix))?.[1] ?? "user";

let colours = {};
let moving = [];
let drawn = [];
let timer;
let pen;
/** When the last dot sets out, by wire. */
const turns = new Map();

/** Takes the colours of the theme. */
export function paint() {
  // through a property that takes colours: the canvas does not know light-dark()
  const probe = $("dots");
  colours = Object.fromEntries(
    ["user", "session", "track", "beat", "ink"].map((name) => {
      probe.style.color = `var(--k-${name})`;
      return [name, getComputedStyle(probe).color];
    }),
  );
}

/** Fits the canvas to the diagram. */
export function fit({ width, height }) {
  const scale = Math.min(2, devicePixelRatio || 1);
  const canvas = $("dots");
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  drawn = [];
}

/** Sends dots on their way for what was seen; `mine` is the mark of the person whose last write is followed. */
export function sendDots(sightings, offset, mine) {
  if (still.matches || document.hidden) return;
  const now = performance.now();
  for (const { hop, kind, at, n, some } of sightings) {
    if (!wires.has(hop)) continue;
    const beat = kind === "heartbeat";
    // what is applied sets out when what was published has arrived
    const lead = hop.startsWith("apply") ? travelMs : 0;
    const start = now + (at + offset - Date.now()) + delayMs + lead;
    const own = some?.some(([mark]) => mark === mine) ?? false;
    const points = wires.get(hop);
    const gapMs = (travelMs * gapPx) / Math.hypot(points.at(-1)[0] - points[0][0], points.at(-1)[1] - points[0][1]);
    const dots = beat ? 1 : Math.min(3, n);
    for (let i = 0; i < dots; i++) {
      const turn = Math.max(start, (turns.get(hop) ?? 0) + gapMs);
      if (turn > start + patienceMs && !(own && i === 0)) break;
      turns.set(hop, turn);
      const r = beat ? 2 : 3.2 + Math.min(2.6, Math.log2(n / dots) * 0.8);
      moving.push({ hop, group: groupOf(kind), start: turn, r, own: own && i === 0 });
    }
  }
  if (!timer && moving.length > 0) timer = setTimeout(() => requestAnimationFrame(draw), frameMs);
}

function draw() {
  const now = performance.now();
  for (const [x, y, r] of drawn) pen.clearRect(x - r, y - r, 2 * r, 2 * r);
  drawn = [];
  moving = moving.filter((dot) => now < dot.start + travelMs);
  for (const dot of moving) {
    const part = (now - dot.start) / travelMs;
    if (part < 0) continue;
    const points = wires.get(dot.hop);
    const place = (part + 0.25 * part * (1 - part) * (2 * part - 1)) * (points.length - 1);
    const i = Math.min(points.length - 2, Math.floor(place));
    const f = place - i;
    const [dx, dy] = [points[i + 1][0] - points[i][0], points[i + 1][1] - points[i][1]];
    const x = points[i][0] + dx * f;
    const y = points[i][1] + dy * f;
    pen.globalAlpha = dot.group === "beat" ? 0.55 : 1;
    pen.fillStyle = colours[dot.group];
    pen.beginPath();
    pen.arc(x, y, dot.r, 0, 6.2832);
    pen.fill();
    if (dot.own) {
      pen.strokeStyle = colours.ink;
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.arc(x, y, dot.r + 3.5, 0, 6.2832);
      pen.stroke();
    }
    drawn.push([x, y, dot.r + 6]);
  }
  timer = moving.length > 0 ? setTimeout(() => requestAnimationFrame(draw), frameMs) : undefined;
}
