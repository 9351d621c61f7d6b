import { $, age, attr, num, svg, text } from "./dom.js";

const engines = ["postgres", "redis", "nats", "elasticsearch", "clickhouse"];
const serviceOf = { postgres: "user", redis: "session", elasticsearch: "search", clickhouse: "analytics" };
const projectorOf = { redis: "session", elasticsearch: "search", clickhouse: "analytics" };
const nameOf = { postgres: "PostgreSQL", redis: "Redis", nats: "JetStream", elasticsearch: "Elasticsearch", clickhouse: "ClickHouse" };
const lossOf = {
  postgres: "Signing up and editing are down",
  redis: "Sessions are down",
  nats: "The stream is down",
  elasticsearch: "Search is down",
  clickhouse: "Analytics is down",
};
const catchingUpSeconds = 5;
const catchingUpMessages = 500;
const sparkPoints = 120;

/** The points of each wire, for the dots: `hop -> [[x, y], ...]`, made anew when the page changes its shape. */
export const wires = new Map();
const history = new Map();

/** Wires from card to card, sideways where there is room and downwards on a phone. Returns the size of the diagram. */
export function layWires() {
  const stage = $("diagram").getBoundingClientRect();
  const box = (id) => {
    const r = $(`node-${id}`).getBoundingClientRect();
    return { l: r.left - stage.left, r: r.right - stage.left, t: r.top - stage.top, b: r.bottom - stage.top, w: r.width, h: r.height };
  };
  const [pg, re, js, es, ch, door] = ["postgres", "redis", "nats", "elasticsearch", "clickhouse", "track"].map(box);
  const down = js.t > pg.b;
  const y = (b, part) => b.t + b.h * part;
  const x = (b, part) => b.l + b.w * part;
  const plan = down
    ? {
        "publish.user": [[x(pg, 0.5), pg.b], [x(js, 0.24), js.t]],
        "publish.session": [[x(re, 0.4), re.b], [x(js, 0.7), js.t]],
        "apply.session": [[x(js, 0.82), js.t], [x(re, 0.62), re.b]],
        "apply.search": [[x(js, 0.24), js.b], [x(es, 0.5), es.t]],
        "apply.analytics": [[x(js, 0.76), js.b], [x(ch, 0.5), ch.t]],
        "publish.track": [[x(door, 0.5), door.t], [x(js, 0.5), js.b]],
      }
    : {
        "publish.user": [[pg.r, y(pg, 0.5)], [js.l, y(js, 0.22)]],
        "publish.session": [[re.r, y(re, 0.36)], [js.l, y(js, 0.6)]],
        "apply.session": [[js.l, y(js, 0.82)], [re.r, y(re, 0.64)]],
        "apply.search": [[js.r, y(js, 0.22)], [es.l, y(es, 0.5)]],
        "apply.analytics": [[js.r, y(js, 0.76)], [ch.l, y(ch, 0.5)]],
        "publish.track": [[x(door, 0.5), door.t], [x(js, 0.5), js.b]],
      };
  const drawing = $("wires");
  drawing.setAttribute("viewBox", `0 0 ${stage.width} ${stage.height}`);
  drawing.replaceChildren();
  wires.clear();
  for (const [hop, [[ax, ay], [bx, by]]] of Object.entries(plan)) {
    const upright = down || hop === "publish.track";
    const [cx, cy] = upright ? [ax, (ay + by) / 2] : [(ax + bx) / 2, ay];
    const [dx, dy] = upright ? [bx, (ay + by) / 2] : [(ax + bx) / 2, by];
    drawing.append(svg("path", { d: `M${ax} ${ay}C${cx} ${cy} ${dx} ${dy} ${bx} ${by}`, "data-hop": hop }));
    // an arrow head at the end, in the direction of the last control point
    const [hx, hy] = [Math.sign(Math.round(bx - dx)), Math.sign(Math.round(by - dy))];
    drawing.append(svg("path", { d: `M${bx - 6 * hx - 4 * hy} ${by - 6 * hy - 4 * hx}L${bx} ${by}L${bx - 6 * hx + 4 * hy} ${by - 6 * hy + 4 * hx}`, class: "head" }));
    const points = [];
    for (let i = 0; i <= 32; i++) {
      const t = i / 32;
      const u = 1 - t;
      const at = (a, c, d, b) => u * u * u * a + 3 * u * u * t * c + 3 * u * t * t * d + t * t * t * b;
      points.push([at(ax, cx, dx, bx), at(ay, cy, dy, by)]);
    }
    wires.set(hop, points);
  }
  return { width: stage.width, height: stage.height };
}

/** State and words of one engine: `up`, `behind`, or `down`. */
function conditionOf(engine, { status, control }) {
  const run = control?.engines[engine];
  const service = serviceOf[engine];
  if (run === "frozen") return { state: "down", word: "frozen", why: "is frozen" };
  if (run === "held") return { state: "down", word: "killed", why: "was killed" };
  if (run === "down") return { state: "down", word: "restarting", why: "is starting again" };
  if (service && !status.services[service]?.up) return { state: "down", word: "no answer", why: `cannot be seen: the ${service} service does not answer` };
  if (!status.stores[engine]?.up) return { state: "down", word: "down", why: "does not answer" };
  const p = status.projectors[projectorOf[engine]];
  if (p && ((p.lag ?? 0) > catchingUpMessages || (p.stalenessSeconds ?? 0) > catchingUpSeconds)) {
    return { state: "behind", word: "catching up", why: p.lag ? `${num(p.lag)} to go` : `${age(p.stalenessSeconds)} behind` };
  }
  return { state: "up", word: "up", why: "" };
}

/** Draws one tick. Returns the condition of every engine. */
export function showTick(tick) {
  const { status } = tick;
  const conditions = Object.fromEntries(engines.map((engine) => [engine, conditionOf(engine, tick)]));
  for (const engine of engines) {
    const node = $(`node-${engine}`);
    attr(node, "data-state", conditions[engine].state);
    text(node.querySelector("[data-chip]"), conditions[engine].word);
    for (const figure of node.querySelectorAll("[data-count]")) {
      const value = status.stores[engine]?.[figure.dataset.count];
      if (value !== undefined) text(figure, num(value));
    }
    const projector = projectorOf[engine];
    if (projector) showProjector(node, status.projectors[projector]);
  }
  for (const cell of document.querySelectorAll("[data-stream]")) {
    const messages = status.streams[cell.dataset.stream]?.messages;
    if (messages !== undefined) text(cell, num(messages));
  }
  const relay = status.relays.user;
  text(document.querySelector("[data-relay=user]"), relay?.lagSeconds == null ? "relay: no word" : `relay ${age(relay.lagSeconds)} behind`);
  verdict(conditions, status);
  return conditions;
}

function showProjector(node, p) {
  const behind = p?.stalenessSeconds == null ? "age unknown" : `${age(p.stalenessSeconds)} behind`;
  text(node.querySelector("[data-lag]"), p?.lag == null ? behind : `${behind}, ${num(p.lag)} waiting`);
}

let told = "";
/** One sentence on the whole. What changes every second is not told to a screen reader; what is new is. */
function verdict(conditions, status) {
  const bad = engines.filter((engine) => conditions[engine].state === "down");
  const behind = engines.filter((engine) => conditions[engine].state === "behind");
  const oldest = Math.max(...Object.values(status.projectors).map((p) => p.stalenessSeconds ?? 0));
  let sentence;
  let detail = "";
  if (bad.length > 0) {
    sentence = bad.map((engine) => `${lossOf[engine]}: ${nameOf[engine]} ${conditions[engine].why}.`).join(" ");
    const waiting = bad.map((engine) => status.projectors[projectorOf[engine]]?.lag ?? 0).reduce((a, b) => a + b, 0);
    detail = bad.length < engines.length ? " All else goes on" : "";
    if (detail) detail += waiting > 0 ? `; ${num(waiting)} ${waiting === 1 ? "change waits" : "changes wait"} for it.` : ".";
  } else if (behind.length > 0) {
    sentence = `${behind.map((engine) => nameOf[engine]).join(" and ")} ${behind.length > 1 ? "are" : "is"} catching up`;
    detail = `: ${behind.map((engine) => conditions[engine].why).join(", ")}.`;
  } else {
    sentence = "Everything is up.";
    detail = ` What was written ${age(oldest)} ago is in every store.`;
  }
  const drift = status.audit?.drift;
  if (drift) detail += ` The audit found ${num(drift)} ${drift === 1 ? "difference" : "differences"}.`;
  attr($("verdict"), "data-state", bad.length > 0 ? "down" : behind.length > 0 ? "behind" : "up");
  text($("verdict"), sentence + detail);
  if (sentence !== told) text($("told"), sentence);
  told = sentence;
}

/** Keeps the last two minutes of staleness and draws them. */
export function remember(at, projectors) {
  for (const [name, [staleness]] of Object.entries(projectors)) {
    const line = history.get(name) ?? [];
    line.push([at, staleness]);
    while (line.length > sparkPoints || (line[0] && line[0][0] < at - sparkPoints * 1000)) line.shift();
    history.set(name, line);
  }
}

export function drawSparks(now) {
  for (const node of document.querySelectorAll("[data-projector]")) {
    const line = (history.get(node.dataset.projector) ?? []).filter(([, value]) => value !== null);
    if (line.length < 2) continue;
    const top = Math.max(2, ...line.map(([, value]) => value));
    const x = (at) => (120 - (now - at) / 1000).toFixed(1);
    const y = (value) => (25 - (value / top) * 22).toFixed(1);
    attr(node.querySelector("[data-spark] path"), "d", `M${x(line[0][0])} 26L${line.map(([at, value]) => `${x(at)} ${y(value)}`).join("L")}L${x(line.at(-1)[0])} 26`);
  }
}
