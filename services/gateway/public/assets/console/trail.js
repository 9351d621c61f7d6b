import { bus } from "./api.js";
import { $, el, markOf, ms } from "./dom.js";

/** The last write of this page, hop by hop, from the sightings that carry its person's mark. */
const ways = {
  postgres: [["publish.user", "JetStream"], ["apply.session", "Redis"], ["apply.search", "Elasticsearch"], ["apply.analytics", "ClickHouse"]],
  redis: [["publish.session", "JetStream"], ["apply.analytics", "ClickHouse"]],
};
const sourceName = { postgres: "PostgreSQL", redis: "Redis" };

let write;

/** The mark of the person whose last write is followed, while it is under way. */
export function followed() {
  return write && Date.now() - write.since < 60_000 ? write.mark : undefined;
}

bus.addEventListener("write", ({ detail: { user, what, source = "postgres", at } }) => {
  write = { mark: markOf(user), what, source, since: at, commit: null, seen: {} };
  show();
});

/** Looks for the followed write among what was seen. */
export function follow(sightings, offset) {
  if (!write) return;
  let news = false;
  for (const { hop, some } of sightings) {
    for (const [mark, at, took] of some ?? []) {
      if (mark !== write.mark || at + offset < write.since - 20 || write.seen[hop] !== undefined) continue;
      if (!ways[write.source].some(([known]) => known === hop)) continue;
      if (took !== null && write.commit === null) write.commit = at - took;
      write.seen[hop] = at;
      news = true;
    }
  }
  if (news) show();
}

function show() {
  const trail = $("trail");
  trail.hidden = false;
  const { source, what, commit, seen } = write;
  const step = (name, said, state) => el("li", { "data-state": state }, el("b", {}, name), ` ${said}`);
  trail.replaceChildren(
    el("li", { class: "what" }, what),
    step(sourceName[source], "committed", "up"),
    ...ways[source].map(([hop, name]) => {
      if (seen[hop] === undefined) return step(name, "on its way", "wait");
      return step(name, commit === null ? "has it" : `after ${ms(seen[hop] - commit)}`, "up");
    }),
  );
}
