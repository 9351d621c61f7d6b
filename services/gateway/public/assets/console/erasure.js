import { bus, call, tell } from "./api.js";
import { $, el, ms } from "./dom.js";

/** Erasures of this page, and the receipt of every store as it comes in. */
const pane = $("erasure");
const names = { user: "User, PostgreSQL", search: "Search, Elasticsearch", session: "Session, Redis", analytics: "Analytics, ClickHouse" };
const erasures = [];

bus.addEventListener("erasure", ({ detail: { id, handle } }) => {
  erasures.unshift({ id, handle, state: "pending", stores: {} });
  $("tab-erasure").click();
  look(erasures[0], 0);
});
// while nothing is watched there is no tick: then it looks by itself, ever more rarely
async function look(erasure, tries) {
  try {
    Object.assign(erasure, (await call(`/v1/erasures/${erasure.id}`)).body);
    delete erasure.problem;
  } catch (error) {
    erasure.problem = error.message;
  }
  draw();
  if (erasure.state !== "complete") setTimeout(look, Math.min(5000, 250 * 1.25 ** tries), erasure, tries + 1);
}

function draw() {
  const head = el("h2", {}, "Erasure ", el("small", {}, "a saga with receipts, no distributed transaction"));
  if (erasures.length === 0) {
    pane.replaceChildren(head, el("p", { class: "empty" }, "Who asks to be erased is gone from the truth at once; each other store then confirms. Sign somebody up, then press “Erase me”. ", el("button", { type: "button", class: "primary", onclick: () => tell("try", {}) }, "Sign somebody up")));
    return;
  }
  pane.replaceChildren(head, ...erasures.map((erasure) => {
    const begun = Date.parse(erasure.requestedAt);
    return el("section", { class: "receipts", "data-state": erasure.state }, el("h3", {}, `@${erasure.handle} `, el("span", { class: "chip" }, erasure.state === "complete" ? `complete after ${ms(Date.parse(erasure.completedAt) - begun)}` : "pending")),
      el("ol", {}, Object.entries(names).map(([store, name]) => {
        const receipt = erasure.stores[store];
        const done = receipt?.state === "complete";
        return el("li", { "data-state": done ? "up" : "wait" }, el("b", {}, name), ` ${done ? `confirmed after ${ms(Date.parse(receipt.confirmedAt) - begun)}` : "has not confirmed yet"}`);
      })),
      erasure.problem ? el("p", { class: "problem" }, erasure.problem) : null);
  }));
}
draw();
