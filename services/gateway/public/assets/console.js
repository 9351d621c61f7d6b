// The console: plain DOM, text only ever set as text, nothing stored.
const $ = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Calls the API. Rejects with a sentence for a person. */
async function call(path, init = {}) {
  const res = await fetch(path, init).catch(() => Promise.reject(new Error("The gateway does not answer.")));
  const body = await res.json().catch(() => ({}));
  if (!res.ok) throw new Error(body.detail ?? `The answer was ${res.status}.`);
  return { body, headers: res.headers };
}

$("sign-up").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const out = $("signed-up");
  out.className = "";
  out.textContent = "Writing…";
  try {
    const created = await call("/v1/users", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() },
      body: JSON.stringify(Object.fromEntries(new FormData(form))),
    });
    const start = performance.now();
    const { handle } = created.body;
    out.textContent = `@${handle} is in PostgreSQL; waiting for Elasticsearch…`;
    const found = await call(`/v1/search?q=${encodeURIComponent(handle)}&limit=1`, {
      headers: { "Consistency-Token": created.headers.get("Consistency-Token") ?? "", Prefer: "wait=5" },
    });
    const late = found.headers.get("Quartet-Freshness") === "stale";
    out.textContent = late
      ? `@${handle} is in PostgreSQL. Elasticsearch did not show it within 5 s; it will.`
      : `@${handle} is found by search, ${Math.round(performance.now() - start)} ms after the answer.`;
    form.reset();
  } catch (error) {
    out.className = "problem";
    out.textContent = error.message;
  }
});

let latest = 0;
async function search() {
  const mine = ++latest;
  const q = $("search").elements.q.value;
  const said = $("found");
  try {
    const { body, headers } = await call(`/v1/search?limit=10&q=${encodeURIComponent(q)}`);
    if (mine !== latest) return;
    said.className = "";
    said.textContent = `${body.total} found, true as of ${headers.get("Quartet-As-Of") ?? "an unknown time"}`;
    $("hits").replaceChildren(
      ...body.hits.map((hit) => {
        const item = element("li");
        item.append(element("b", hit.displayName), ` @${hit.handle} `, element("small", [hit.country, ...hit.tags].filter(Boolean).join(" · ")));
        return item;
      }),
    );
  } catch (error) {
    if (mine !== latest) return;
    said.className = "problem";
    said.textContent = error.message;
  }
}
$("search").addEventListener("input", search);
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
search();

let timer;
$("status").addEventListener("submit", (event) => {
  event.preventDefault();
  clearInterval(timer);
  showStatus();
  timer = setInterval(showStatus, 2000);
});

async function showStatus() {
  const text = $("status-text");
  try {
    const { body } = await call("/v1/admin/status", { headers: { Authorization: `Bearer ${$("status").elements.token.value}` } });
    text.className = "";
    text.textContent = `As of ${new Date().toLocaleTimeString()}`;
    $("status-tables").replaceChildren(
      ...["services", "stores", "streams", "projectors", "relays"].flatMap((part) => [element("h3", part), table(body[part] ?? {})]),
      element("h3", "audit"),
      table({ audit: body.audit ?? {} }),
    );
  } catch (error) {
    clearInterval(timer);
    text.className = "problem";
    text.textContent = error.message;
  }
}

function table(rows) {
  const columns = [...new Set(Object.values(rows).flatMap((row) => Object.keys(row)))];
  const made = element("table");
  const head = element("tr");
  head.append(element("th"), ...columns.map((name) => element("th", name)));
  made.append(head);
  for (const [name, row] of Object.entries(rows)) {
    const line = element("tr");
    line.append(
      element("th", name),
      ...columns.map((column) =>
        column === "up" ? element("td", row.up ? "up" : "down", row.up ? "up" : "down") : element("td", String(row[column] ?? "–")),
      ),
    );
    made.append(line);
  }
  return made;
}
