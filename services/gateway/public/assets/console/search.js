import { bus, call, freshnessOf, last, me, tell } from "./api.js";
import { $, attr, el, num, text } from "./dom.js";

/** Search as one types: suggestions, results with facets, and how fresh they are. */
const input = $("q");
const list = $("suggestions");
const wait = $("wait");
const chosen = { country: null, tag: null };
const limit = 8;

let running;
let suggesting;
let active = -1;
let wasDown = false;

wait.addEventListener("change", run);
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  close();
  run();
});
input.addEventListener("input", () => {
  suggest();
  run();
});
input.addEventListener("blur", () => setTimeout(close, 150));
input.addEventListener("keydown", (event) => {
  const options = [...list.children];
  if (event.key === "Escape") return close();
  if (list.hidden || options.length === 0) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    const step = event.key === "ArrowDown" ? 1 : -1;
    active = (active + step + options.length + (active < 0 && step < 0 ? 1 : 0)) % options.length;
    for (const [i, option] of options.entries()) option.setAttribute("aria-selected", String(i === active));
    input.setAttribute("aria-activedescendant", options[active].id);
  } else if (event.key === "Enter" && active >= 0) {
    event.preventDefault();
    options[active].dispatchEvent(new MouseEvent("mousedown", { bubbles: true }));
  }
});

function close() {
  list.hidden = true;
  active = -1;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
}

async function suggest() {
  suggesting?.abort();
  const q = input.value.trim();
  if (q.length < 1) return close();
  suggesting = new AbortController();
  try {
    const { body } = await call(`/v1/search/suggest?limit=5&q=${encodeURIComponent(q)}`, { signal: suggesting.signal });
    if (body.suggestions.length === 0 || document.activeElement !== input) return close();
    active = -1;
    list.replaceChildren(
      ...body.suggestions.map((person, i) =>
        el("li", { role: "option", id: `suggestion-${i}`, "aria-selected": "false", onmousedown: () => {
          close();
          tell("open-person", person.id);
        } }, el("b", {}, person.displayName), ` @${person.handle}`)),
    );
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
  } catch {
    // the results say it if search is down
    close();
  }
}

/** Searches with what is typed and chosen. Each call ends the one before it. */
async function run() {
  running?.abort();
  running = new AbortController();
  attr($("freshness"), "data-state", "asking");
  const query = new URLSearchParams({ q: input.value, limit: String(limit) });
  for (const [name, value] of Object.entries(chosen)) if (value) query.set(name, value);
  try {
    const answer = await call(`/v1/search?${query}`, { fresh: true, wait: wait.checked ? 5 : 0, signal: running.signal });
    const fresh = freshnessOf(answer, wait.checked);
    note(`${num(answer.body.total)} found. ${fresh.sentence}`, fresh.stale ? "stale" : "fresh");
    facets(answer.body.facets);
    $("hits").replaceChildren(...answer.body.hits.map(hit));
  } catch (error) {
    if (error.name === "AbortError") return;
    note(error.status !== 503 ? error.message : wasDown ? "Search is down. Everything that does not need it goes on." : "Search did not answer in time. Asking again…", "problem");
  }
}

function note(sentence, state) {
  text($("freshness"), sentence);
  attr($("freshness"), "data-state", state);
}

function hit(person) {
  const mine = person.id === me.user?.id;
  return el("li", {}, el("button", { type: "button", onclick: () => tell("open-person", person.id) },
    el("b", {}, person.displayName), el("span", { class: "handle" }, `@${person.handle}`), mine && el("span", { class: "chip" }, "you"),
    el("small", {}, [person.country, ...person.tags].filter(Boolean).join(" · "))));
}

function facets(all) {
  const group = (name) =>
    (all?.[name] ?? []).slice(0, 6).map(({ value, count }) =>
      el("button", { type: "button", "aria-pressed": String(chosen[name] === value), onclick: () => {
        chosen[name] = chosen[name] === value ? null : value;
        run();
      } }, `${value} `, el("small", {}, num(count))));
  const row = (label, buttons) => (buttons.length > 0 ? el("div", { role: "group", "aria-label": label }, ...buttons) : null);
  $("facets").replaceChildren(...[row("Countries", group("country")), row("Tags", group("tag"))].filter(Boolean));
}

// after a write: look for it at once, to see whether it is there already
bus.addEventListener("me", () => {
  if (me.user && input.value === "") input.value = me.user.handle;
  if (!me.user) input.value = "";
  if (last.write || me.user === null) run();
});
bus.addEventListener("health", ({ detail }) => {
  const down = detail.conditions.elasticsearch.state === "down";
  // it was away, or too busy to answer in time: asked again as soon as it is there
  if (!down && (wasDown || $("freshness").dataset.state === "problem")) run();
  wasDown = down;
});
run();
