import { bus, call, freshnessOf } from "./api.js";
import { barChart, funnelChart, retentionTable } from "./charts.js";
import { $, attr, el, num, text } from "./dom.js";

/** The analytics tab: asked when it is opened and when a range is chosen, and not by the clock. */
const spans = {
  day: { name: "Two days, by hour", interval: "hour", ms: 2 * 86_400_000 },
  weeks: { name: "Eight weeks, by day", interval: "day", ms: 56 * 86_400_000 },
};
let span = "weeks";
let asked = 0;
let wasDown = false;
const pane = $("analytics");
const funnelSteps = ["visit", "search", "profile.view", "message", "purchase"];

const dayName = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });
const hourName = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });

pane.append(
  el("div", { class: "pane-head" },
    el("h2", {}, "Analytics ", el("small", {}, "ClickHouse, derived")),
    el("div", { class: "row", role: "group", "aria-label": "Range" }, Object.entries(spans).map(([id, { name }]) => el("button", { type: "button", "data-span": id, "aria-pressed": String(id === span), onclick: () => {
      span = id;
      for (const button of pane.querySelectorAll("[data-span]")) attr(button, "aria-pressed", String(button.dataset.span === id));
      showAnalytics();
    } }, name)), el("button", { type: "button", id: "analytics-again", onclick: () => showAnalytics() }, "Look again"))),
  el("p", { class: "note", id: "analytics-note", role: "status" }),
  el("div", { class: "charts", id: "charts" }),
);

/** Asks for all four and draws them. */
export async function showAnalytics() {
  const mine = ++asked;
  const { ms, interval } = spans[span];
  const unit = interval === "hour" ? 3_600_000 : 86_400_000;
  const to = new Date(Math.ceil(Date.now() / unit) * unit).toISOString();
  const from = new Date(Math.ceil(Date.now() / unit) * unit - ms).toISOString();
  const range = `from=${from}&to=${to}`;
  const eight = new Date(Date.now() - 56 * 86_400_000).toISOString().slice(0, 10);
  const label = (at) => (interval === "hour" ? hourName : dayName).format(new Date(at));
  const week = (at) => dayName.format(new Date(at));
  const note = $("analytics-note");
  attr(note, "data-state", "asking");
  try {
    const [signups, users, events, retention, funnel] = await Promise.all([
      call(`/v1/analytics/signups?${range}&interval=${interval}`, { fresh: true }),
      call(`/v1/analytics/active-users?from=${eight}&to=${to}&interval=day`),
      call(`/v1/analytics/events?name=visit&${range}&interval=${interval}`),
      call(`/v1/analytics/retention?from=${eight}&to=${to}&cohort=week&periods=8`),
      call(`/v1/analytics/funnel?steps=${funnelSteps.join(",")}&within=7d&from=${eight}&to=${to}`),
    ]);
    if (mine !== asked) return;
    const fresh = freshnessOf(signups, false);
    text(note, fresh.sentence);
    attr(note, "data-state", fresh.stale ? "stale" : "fresh");
    const { steps } = funnel.body;
    const most = Math.max(0, ...users.body.series.map((point) => point.users));
    const visits = events.body.total;
    $("charts").replaceChildren(
      barChart("Sign-ups", "facts of User", signups.body.series, "count", label, `${num(signups.body.total)} in all`),
      barChart("Active people", "sessions and tracked events", users.body.series, "users", week, `at most ${num(most)} in a day`),
      barChart("Visits", "tracked events", events.body.series, "count", label, `${num(visits)} in all`),
      funnelChart("Funnel", "in order, within 7 days", steps, `of ${num(steps[0]?.users ?? 0)} who visited, ${num(steps.at(-1)?.users ?? 0)} bought`),
      retentionTable("Retention", "by first activity", retention.body.cohorts.filter((cohort) => cohort.size > 0), week, "who came back, of each week's newcomers"),
    );
  } catch (error) {
    if (mine !== asked) return;
    text(note, error.status !== 503 ? error.message : wasDown ? "Analytics is down. Everything that does not need it goes on." : "Analytics did not answer in time. Asking again…");
    attr(note, "data-state", "problem");
  }
}

bus.addEventListener("health", ({ detail }) => {
  const down = detail.conditions.clickhouse.state === "down";
  const failed = $("analytics-note").dataset.state === "problem";
  if (!down && (wasDown || failed) && !$("panel-analytics").hidden) showAnalytics();
  wasDown = down;
});
