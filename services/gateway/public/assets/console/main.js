import "./account.js";
import "./erasure.js";
import "./person.js";
import "./search.js";
import "./sessions.js";
import { showAnalytics } from "./analytics.js";
import { call, tell } from "./api.js";
import { drawSparks, layWires, remember, showTick } from "./diagram.js";
import { $, attr, text } from "./dom.js";
import { fit, paint, sendDots } from "./dots.js";
import { connect, live } from "./live.js";
import { setUp, takeKey } from "./operate.js";
import { follow, followed } from "./trail.js";

// ---- the live diagram
/** What the clock of this machine is ahead of the gateway's, in ms: the least that was ever seen, for a message takes time too. */
let offset = Number.POSITIVE_INFINITY;
const rate = [];

live.addEventListener("state", ({ detail }) => {
  attr($("diagram"), "data-live", detail);
  const words = {
    off: "The live view is switched off here; all below works.",
    locked: "The live view needs the console's token; all below works.",
    lost: "The gateway does not answer. Trying again…",
  };
  if (words[detail]) {
    text($("verdict"), words[detail]);
    attr($("verdict"), "data-state", detail === "lost" ? "down" : "unknown");
  }
});
live.addEventListener("history", ({ detail }) => {
  for (const { at, projectors } of detail) remember(at, projectors);
});
live.addEventListener("tick", ({ detail: tick }) => {
  offset = Math.min(offset, Date.now() - tick.at);
  const projectors = Object.fromEntries(Object.entries(tick.status.projectors).map(([name, p]) => [name, [p.stalenessSeconds, p.lag]]));
  remember(tick.at, projectors);
  if (document.hidden) return;
  const conditions = showTick(tick);
  drawSparks(tick.at);
  showRate();
  tell("health", { conditions, control: tick.control });
});
live.addEventListener("flow", ({ detail: sightings }) => {
  const now = performance.now();
  for (const { hop, kind, n } of sightings) if (hop.startsWith("publish") && kind !== "heartbeat") rate.push([now, n]);
  const ahead = Number.isFinite(offset) ? offset : 0;
  follow(sightings, ahead);
  sendDots(sightings, ahead, followed());
});

const rateSeconds = 4;
function showRate() {
  const since = performance.now() - rateSeconds * 1000;
  while (rate[0] && rate[0][0] < since) rate.shift();
  const n = rate.reduce((sum, [, count]) => sum + count, 0) / rateSeconds;
  text($("rate"), n === 0 || n >= 10 ? String(Math.round(n)) : n.toFixed(1));
}

const lay = () => fit(layWires());
new ResizeObserver(() => requestAnimationFrame(lay)).observe($("diagram"));

// ---- the theme
const themes = ["auto", "light", "dark"];
function showTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  text($("theme"), `Theme: ${name}`);
  paint();
}
$("theme").addEventListener("click", () => {
  const next = themes[(themes.indexOf(localStorage.getItem("quartet-theme") ?? "auto") + 1) % themes.length];
  localStorage.setItem("quartet-theme", next);
  showTheme(next);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
showTheme(localStorage.getItem("quartet-theme") ?? "auto");

// ---- the tabs, as the ARIA practices have them: arrows move, one is in the tab order
const tabs = [...document.querySelectorAll("[role=tab]")];
export function open(tab, focus = false) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", String(chosen));
    one.tabIndex = chosen ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
  tell("tab", tab.id.replace("tab-", ""));
  if (tab.id === "tab-analytics") showAnalytics();
}
for (const tab of tabs) {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -tabs.indexOf(tab), End: tabs.length - 1 - tabs.indexOf(tab) }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    open(tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length], true);
  });
}

takeKey();
addEventListener("hashchange", () => {
  if (takeKey()) location.reload();
});
const about = await call("/v1/console").then(({ body }) => body, () => ({ console: "off", local: false }));
setUp(about, connect);
lay();
void connect();
