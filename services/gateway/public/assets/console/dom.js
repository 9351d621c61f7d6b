/** Small helpers. Text is only ever set as text. */

export const $ = (id) => document.getElementById(id);

/** `el("p", {class: "note"}, "text", node)`; a property that begins with `on` is a listener. */
export function el(name, props = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "value") made.value = value;
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return made;
}

export function svg(name, props = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(props)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

/** Sets a text only if it differs: an unchanged page costs nothing to draw, and a screen reader is told nothing twice. */
export function text(node, value) {
  if (node && node.textContent !== value) node.textContent = value;
}

export function attr(node, name, value) {
  if (node && node.getAttribute(name) !== value) node.setAttribute(name, value);
}

const numbers = new Intl.NumberFormat("en");
export const num = (n) => (typeof n === "number" ? numbers.format(n) : "–");

export const ms = (n) => (n < 1000 ? `${Math.max(0, Math.round(n))} ms` : `${(n / 1000).toFixed(1)} s`);

/** How old something is, for people: `0.4 s`, `12 s`, `3 min`. */
export function age(seconds) {
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

const clock = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
export const when = (iso) => (iso ? clock.format(new Date(iso)) : "–");

let hide;
/** Says something for six seconds at the foot of the page. */
export function say(sentence, bad = false) {
  const said = $("said");
  said.hidden = false;
  said.dataset.bad = bad ? "yes" : "no";
  said.textContent = sentence;
  clearTimeout(hide);
  hide = setTimeout(() => {
    said.hidden = true;
  }, 6000);
}

/** The mark under which a person's events are seen (FNV-1a of the id), as the services make it. */
export function markOf(id) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, "0");
}
