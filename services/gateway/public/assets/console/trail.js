import { bus } from "./api.js";
import { $, el, markOf, ms } from "./dom.js";

/** The last write of this page, hop by hop, from the sightings that carry its person's mark. */
const ways = {
  postgres: [["publish.user", "JetStream"], ["apply.session", "Redis"], ["apply.search", "Elasticsearch"], ["apply.analytics", "ClickHouse"]],
  redis: [["publish.session", "JetStream"], ["apply.analytics", "ClickHouse"]],
};
const sourceName = { postgres: "PostgreSQL", redis: "Redis" };

const unseenMs = 15_000;
let write;

/** The mark of the person whose last write is followed, while it is under way. */
export function followed() {
  return write && Date.now() - write.since < 60_000 ? write.mark : undefined;
}

bus.addEventListener("write", ({ detail: { user, what, source = "postgres", at } }) => {
  write = { mark: markOf(user), what, source, since: at, commit: null, seen: {} };
  show();
});

const engineOf = { JetStream: "nats", Redis: "redis", Elasticsearch: "elasticsearch", ClickHouse: "clickhouse" };
/** A store that is up and not behind has the write by now, whether it was seen on its way or not. */
bus.addEventListener("health", ({ detail: { conditions } }) => {
  if (!write || Date.now() - write.since < unseenMs) return;
  const late = ways[write.source].filter(([hop, name]) => !(hop in write.seen) && conditions[engineOf[name]].state === "up");
  for (const [hop] of late) write.seen[hop] = null;
  if (late.length > 0) show();
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
      return step(name, commit === null || seen[hop] === null ? "has it" : `after ${ms(seen[hop] - commit)}`, "up");
    }),
  );
}
