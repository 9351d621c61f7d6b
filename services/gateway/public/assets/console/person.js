import { bus, call, freshnessOf, me } from "./api.js";
import { $, el, num, when } from "./dom.js";
import { key } from "./operate.js";

/** A person's page, put together by the gateway from four services; what did not answer is named. */
const dialog = $("person");
const missingWords = {
  user: "User does not answer (PostgreSQL): name and profile are missing.",
  session: "Session does not answer (Redis): presence is missing.",
  analytics: "Analytics does not answer (ClickHouse): activity is missing.",
  search: "Search does not answer (Elasticsearch): similar people are missing.",
};
let shown;
let conditions = "";

bus.addEventListener("open-person", ({ detail: id }) => {
  shown = id;
  dialog.replaceChildren(el("p", {}, "Asking four services…"));
  if (!dialog.open) dialog.showModal();
  load();
});
dialog.addEventListener("close", () => {
  shown = undefined;
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
// asked again when a store goes or comes back, not by the clock
bus.addEventListener("health", ({ detail }) => {
  const now = JSON.stringify(Object.values(detail.conditions).map(({ state }) => state === "down"));
  if (now !== conditions && shown) load();
  conditions = now;
});

async function load() {
  const id = shown;
  try {
    const own = me.user?.id === id;
    const answer = await call(`/v1/people/${id}`, { own, console: own ? null : key(), fresh: true, wait: $("wait").checked ? 5 : 0 });
    if (shown !== id) return;
    draw(answer);
  } catch (error) {
    if (shown !== id) return;
    dialog.replaceChildren(el("h2", { id: "person-name" }, error.status === 404 ? "Nobody" : "No answer"), el("p", {}, error.status === 404 ? "There is no such person, or no longer." : error.message), closer());
  }
}

const closer = () => el("p", { class: "row" }, el("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close"));

function draw(answer) {
  const { user, presence, activity, similar, missing } = answer.body;
  const card = (title, from, lost, ...content) =>
    el("section", { class: "part", "data-state": lost ? "down" : "up" }, el("h3", {}, title, " ", el("small", {}, from)), lost ? el("p", { class: "missing" }, missingWords[lost]) : content);
  const fresh = freshnessOf(answer, $("wait").checked);
  const lost = (name) => (missing.includes(name) ? name : null);
  const hidden = el("p", { class: "note" }, "Only for the person, or an operator.");
  const names = Object.entries(activity?.byName ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 5);
  dialog.replaceChildren(
    el("h2", { id: "person-name" }, user?.displayName ?? "Somebody", user && el("small", {}, ` @${user.handle}`)),
    el("p", { class: "note", "data-state": missing.length > 0 || fresh.stale ? "stale" : "fresh" }, missing.length > 0 ? `Put together without ${missing.join(" and ")}.` : `Put together from four services. ${fresh.sentence}`),
    el("div", { class: "parts" },
      card("Profile", "PostgreSQL", lost("user"), user && el("p", {}, user.bio || "Says nothing about themselves."), user && el("p", { class: "note" }, [user.country, ...user.tags].filter(Boolean).join(" · "), `, since ${when(user.createdAt)}, revision ${num(user.revision)}`)),
      card("Presence", "Redis", lost("session"), presence ? el("p", {}, el("strong", {}, num(presence.activeSessions)), ` active ${presence.activeSessions === 1 ? "session" : "sessions"}, last seen ${when(presence.lastSeenAt)}`) : hidden),
      card("Activity", "ClickHouse", lost("analytics"), activity ? el("p", {}, el("strong", {}, num(activity.events)), ` events, the last ${when(activity.lastEventAt)}`) : hidden, names.length > 0 && el("p", { class: "note" }, names.map(([name, n]) => `${name} ${num(n)}`).join(" · "))),
      card("Similar people", "Elasticsearch", lost("search"), (similar ?? []).length > 0 ? el("ul", { class: "similar" }, similar.map((other) => el("li", {}, el("button", { type: "button", class: "link", onclick: () => {
        shown = other.id;
        load();
      } }, other.displayName), ` @${other.handle}`))) : el("p", { class: "note" }, "Nobody yet."))),
    closer());
}
