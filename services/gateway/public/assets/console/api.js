/** Calls to the API, who is logged in, and the token of the last write. */

/** Who uses this page. `password` stays in memory for as long as the page is open: it lets a second device log in with one click. */
export const me = { token: null, user: null, password: null, sessionId: null };

/** The consistency token of this page's last write. */
export const last = { write: null };

/** The changes that the parts of the page tell each other: `me`, `write` (with `{user, what}`), `erasure`, `health`. */
export const bus = new EventTarget();
export const tell = (type, detail) => bus.dispatchEvent(new CustomEvent(type, { detail }));

export class Refused extends Error {
  constructor(status, body) {
    const fields = (body.errors ?? []).map((e) => `${e.path} ${e.message}`).join("; ");
    super(fields || body.detail || `The answer was ${status}.`);
    this.status = status;
    this.errors = body.errors ?? [];
  }
}

/**
 * Calls the API. `own`: as the person who is logged in; `console`: as the console; `fresh`: with the token of the last write, and `wait` seconds for
 * it. Rejects with a sentence for a person. Resolves with the body, the headers, and how long it took.
 */
export async function call(path, { method = "GET", body, own = false, console: key = null, fresh = false, wait = 0, headers = {}, signal } = {}) {
  const all = { ...headers };
  if (body !== undefined) all["Content-Type"] = "application/json";
  if (own && me.token) all.Authorization = `Bearer ${me.token}`;
  if (key) all["Quartet-Console"] = key;
  if (fresh && last.write) {
    all["Consistency-Token"] = last.write;
    if (wait > 0) all.Prefer = `wait=${wait}`;
  }
  const start = performance.now();
  let res;
  try {
    res = await fetch(path, { method, headers: all, signal, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The gateway does not answer.");
  }
  const answer = res.status === 204 ? {} : await res.json().catch(() => ({}));
  if (!res.ok) throw new Refused(res.status, answer);
  const written = res.headers.get("Consistency-Token");
  if (written) last.write = written;
  return { body: answer, headers: res.headers, ms: performance.now() - start };
}

/** What the headers of a derived answer say, as a sentence. */
export function freshnessOf({ headers, ms }, waited) {
  const asOf = headers.get("Quartet-As-Of");
  const old = asOf ? `true as of ${Math.max(0, (Date.now() - Date.parse(asOf)) / 1000).toFixed(1)} s ago` : "of unknown age";
  const took = `${Math.round(ms)} ms`;
  if (headers.get("Quartet-Freshness") === "stale") {
    return { stale: true, sentence: waited ? `Waited ${took} in vain: your last write is not in here yet; ${old}.` : `Answered at once (${took}): your last write is not in here yet; ${old}.` };
  }
  if (headers.get("Preference-Applied") === "wait") return { stale: false, sentence: `Waited for your write: ${took}, and it is in here.` };
  return { stale: false, sentence: `Answered in ${took}; ${old}.` };
}
