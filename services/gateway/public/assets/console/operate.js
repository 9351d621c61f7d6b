import { bus, call, tell } from "./api.js";
import { $, attr, el, num, say, text } from "./dom.js";

/** What an operator may do here: break and mend engines, rebuild and audit stores, people and load for a demonstration. Needs the console's token. */
const kept = "quartet-console";
const serviceOf = { redis: "session", elasticsearch: "search", clickhouse: "analytics" };
/** When this page asked for an audit, by store; and which rebuilds it waits for. */
let audits = {};
const rebuilding = new Map();

let local = false;
let busy = new Set();

/** The console's token, if this page has it. Kept for as long as the tab is open. */
export const key = () => sessionStorage.getItem(kept);

/** Takes the token from the link that the start printed, and out of the address. Whether there was one. */
export function takeKey() {
  const given = /^#token=([\w-]{16,})$/.exec(location.hash)?.[1];
  if (!given) return false;
  sessionStorage.setItem(kept, given);
  history.replaceState(null, "", location.pathname);
  return true;
}

/** Shows what may be done here. `changed` is called when the token changes. */
export function setUp(about, changed) {
  local = about.local;
  const unlock = $("unlock");
  unlock.hidden = about.console === "off";
  const show = () => {
    text(unlock, key() ? "Lock" : "Unlock actions");
    buildActs();
    buildTry();
  };
  unlock.addEventListener("click", () => {
    if (key()) {
      sessionStorage.removeItem(kept);
      show();
      changed();
    } else $("key").showModal();
  });
  $("key").addEventListener("close", () => {
    const form = $("key").querySelector("form");
    if ($("key").returnValue === "ok") {
      sessionStorage.setItem(kept, form.elements.token.value.trim());
      show();
      changed();
    }
    form.reset();
  });
  show();
}

async function act(method, path, body, done) {
  if (busy.has(path)) return;
  busy.add(path);
  try {
    const answer = await call(path, { method, body, console: key() });
    if (done) say(typeof done === "function" ? done(answer.body) : done);
  } catch (error) {
    say(error.status === 401 ? "The token is not the right one: lock, and unlock with the one that the start printed." : error.message, true);
  } finally {
    busy.delete(path);
  }
}

function buildActs() {
  for (const node of document.querySelectorAll("[data-engine]")) {
    const engine = node.dataset.engine;
    const name = node.querySelector("h3").lastChild.textContent.trim();
    const acts = node.querySelector("[data-acts]");
    if (!key()) {
      acts.replaceChildren();
      continue;
    }
    const order = (action, label) =>
      el("button", { type: "button", "data-act": action, "aria-label": `${label} ${name}`, onclick: () => act("POST", `/v1/console/engines/${engine}/${action}`) }, label);
    const store = serviceOf[engine];
    acts.replaceChildren(
      ...(local ? [order("kill", "Kill"), order("freeze", "Freeze"), order("revive", "Revive")] : []),
      ...(store ? [el("button", { type: "button", "data-act": "rebuild", "aria-label": `Rebuild ${name} from the stream`, onclick: () => rebuild(store, name) }, "Rebuild")] : []),
    );
  }
}

/** Fills a store anew from the stream while it serves. */
async function rebuild(store, name) {
  if (!confirm(`Fill ${name} anew from the stream? It goes on answering meanwhile.`)) return;
  await act("POST", "/v1/admin/rebuilds", { store }, () => {
    rebuilding.set(store, name);
    return `${name} is being filled anew from the stream.`;
  });
}

async function audit() {
  await act("POST", "/v1/admin/audits", {}, ({ requested }) => {
    audits = { ...requested };
    return "Comparing every derived store with the truth…";
  });
}

/** Asks how far the rebuilds and audits are that this page began: at a tick, and only while there are some. */
async function lookAfter() {
  for (const [store, name] of rebuilding) {
    const { body } = await call(`/v1/admin/rebuilds/${store}`, { console: key() });
    if (body.state === "running") say(`${name}: ${Math.round((100 * body.done) / Math.max(1, body.total))} % replayed.`);
    else {
      rebuilding.delete(store);
      say(`${name} is filled anew.`);
    }
  }
  const waiting = Object.entries(audits);
  if (waiting.length === 0) return;
  const { body } = await call("/v1/admin/audits", { console: key() });
  const found = waiting.map(([store, since]) => body.audits.find((a) => a.store === store && a.startedAt >= since));
  if (found.includes(undefined)) return;
  audits = {};
  const drift = found.reduce((sum, a) => sum + a.drift, 0);
  const compared = found.reduce((sum, a) => sum + a.compared, 0);
  say(drift === 0 ? `Every derived store equals the truth: ${num(compared)} compared, no difference.` : `${num(drift)} of ${num(compared)} differ; they are being mended.`, drift > 0);
}

function buildTry() {
  const button = (label, props, onclick) => el("button", { type: "button", ...props, onclick }, label);
  const load = (perSecond) => act("POST", "/v1/console/load", { perSecond, seconds: 60 });
  const acts = [button("Sign somebody up", { class: "primary", id: "try-sign-up" }, () => tell("try", {}))];
  if (key() && local) {
    acts.push(
      button("Run demo load", { id: "load" }, () => load(20)),
      button("200 events/s", { id: "load-200" }, () => load(200)),
      button("Stop load", { id: "load-stop", hidden: true }, () => act("DELETE", "/v1/console/load")),
      button("Bring in 200 people", { id: "seed" }, () => act("POST", "/v1/console/seed", { users: 200 }, "200 people are in, with eight weeks behind them.")),
    );
  }
  if (key()) acts.push(button("Audit the stores", { id: "audit" }, audit));
  $("try").replaceChildren(...acts);
}

/** Shows each engine the orders that make sense now, and how the load goes. */
function showControl(control) {
  if (!control) return;
  for (const [engine, state] of Object.entries(control.engines)) {
    const acts = $(`node-${engine}`).querySelector("[data-acts]");
    for (const button of acts.querySelectorAll("button")) {
      const { act: action } = button.dataset;
      if (["kill", "freeze", "revive"].includes(action)) button.hidden = state === "external" || (action === "revive") !== (state === "frozen" || state === "held");
    }
    attr(acts, "data-run", state);
    // who used the keyboard stays where they were
    if (acts.contains(document.activeElement) && document.activeElement.hidden) acts.querySelector("button:not([hidden])")?.focus();
  }
  const stop = $("load-stop");
  if (!stop) return;
  const { load } = control;
  stop.hidden = !load;
  $("load").hidden = $("load-200").hidden = Boolean(load);
  if (load) text(stop, `Stop load (${load.perSecond}/s, ${Math.max(0, Math.round((Date.parse(load.until) - Date.now()) / 1000))} s left)`);
  $("seed").disabled = control.seeding;
}

let looking = false;
bus.addEventListener("health", async ({ detail }) => {
  showControl(detail.control);
  if (looking || !key()) return;
  looking = true;
  await lookAfter().catch(() => {});
  looking = false;
});
