import { bus, call, last, me, Refused, tell } from "./api.js";
import { $, el, ms, num, say } from "./dom.js";

/** Signing up, logging in, editing oneself, and leaving: the left half of the first tab. */
const pane = $("account");
let mode = "sign-up";

const given = ["Ada", "Grace", "José", "Jürgen", "Nadia", "Chen", "Aiko", "Olu", "Zoë", "Łukasz", "Priya", "Sven"];
const family = ["Lovelace", "Hopper", "Álvarez", "Müller", "Petrova", "Wei", "Tanaka", "Adeyemi", "Ångström", "Nowak", "Sharma", "Lindqvist"];
const countries = ["GB", "US", "ES", "DE", "BG", "CN", "JP", "NG", "SE", "PL", "IN", "BR"];
const interests = ["chess", "sailing", "jazz", "databases", "climbing", "bread", "astronomy"];
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const secret = (bytes) => Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(36).padStart(2, "0")).join("");

function somebody() {
  const name = `${pick(given)} ${pick(family)}`;
  const handle = `${name.normalize("NFD").replace(/[^A-Za-z ]/g, "").toLowerCase().split(" ")[0] || "somebody"}_${secret(3).slice(0, 5)}`;
  return { displayName: name, handle, email: `${handle}@example.org`, password: secret(9), country: pick(countries), tags: [pick(interests), pick(interests)].filter((tag, i, all) => all.indexOf(tag) === i) };
}

function field(label, name, props = {}) {
  const hint = props.hint ? el("small", { id: `${name}-hint` }, props.hint) : undefined;
  const { hint: _, ...rest } = props;
  return el("label", {}, label, el("input", { name, ...(hint ? { "aria-describedby": `${name}-hint` } : {}), ...rest }), hint);
}

function show() {
  const form = me.user ? editForm() : mode === "sign-up" ? signUpForm() : logInForm();
  pane.replaceChildren(el("h2", {}, me.user ? "You " : mode === "sign-up" ? "Sign up " : "Log in ", el("small", {}, me.user || mode === "sign-up" ? "PostgreSQL, the truth" : "Redis, the truth of sessions")), form);
}

function signUpForm() {
  const form = el("form", { id: "sign-up", class: "fields", onsubmit: submit(signUp) },
    field("Name", "displayName", { required: true, maxlength: 80, autocomplete: "name" }),
    field("Handle", "handle", { required: true, pattern: "[a-z0-9_]{3,32}", title: "3 to 32 of a-z, 0-9 and _", autocomplete: "username", hint: "3 to 32 of a-z, 0-9, _" }),
    field("Email", "email", { type: "email", required: true, maxlength: 254, autocomplete: "email", hint: "never leaves PostgreSQL" }),
    field("Password", "password", { type: "password", required: true, minlength: 12, maxlength: 256, autocomplete: "new-password", hint: "12 characters or more" }),
    el("p", { class: "row" }, el("button", { class: "primary" }, "Sign up"),
      el("button", { type: "button", onclick: () => fill(form, somebody()) }, "Make somebody up"),
      el("button", { type: "button", class: "quiet", onclick: () => change("log-in") }, "I have an account")),
    el("p", { class: "problem", role: "alert", hidden: true }));
  return form;
}

function logInForm() {
  return el("form", { id: "log-in", class: "fields", onsubmit: submit(logIn) },
    field("Handle or email", "login", { required: true, maxlength: 254, autocomplete: "username" }),
    field("Password", "password", { type: "password", required: true, maxlength: 256, autocomplete: "current-password" }),
    el("p", { class: "row" }, el("button", { class: "primary" }, "Log in"), el("button", { type: "button", class: "quiet", onclick: () => change("sign-up") }, "Sign up instead")),
    el("p", { class: "problem", role: "alert", hidden: true }));
}

function editForm() {
  const { user } = me;
  const form = el("form", { id: "edit", class: "fields", onsubmit: submit(edit) },
    el("p", { class: "who" }, el("strong", {}, user.displayName), ` @${user.handle} `, el("span", { class: "chip" }, `revision ${num(user.revision)}`)),
    field("Name", "displayName", { required: true, maxlength: 80, value: user.displayName }),
    field("Country", "country", { maxlength: 2, pattern: "[A-Za-z]{2}", title: "two letters", value: user.country ?? "", hint: "two letters" }),
    field("Tags", "tags", { value: user.tags.join(" "), hint: "a-z, 0-9, -; with spaces between" }),
    el("label", { class: "wide" }, "About", el("textarea", { name: "bio", maxlength: 500, rows: 2, value: user.bio })),
    el("p", { class: "row" }, el("button", { class: "primary" }, "Save"),
      el("button", { type: "button", onclick: () => tell("open-person", me.user.id) }, "My page"),
      el("button", { type: "button", class: "quiet", onclick: logOut }, "Log out"),
      el("button", { type: "button", class: "quiet danger", onclick: erase }, "Erase me")),
    el("p", { class: "problem", role: "alert", hidden: true }));
  return form;
}

function fill(form, person) {
  for (const name of ["displayName", "handle", "email", "password"]) form.elements[name].value = person[name];
  form.made = person;
}

function change(to) {
  mode = to;
  show();
  pane.querySelector("input")?.focus();
}

/** A submit that works once at a time and shows what was refused where it was typed. */
function submit(work) {
  return async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    if (form.dataset.busy) return;
    form.dataset.busy = "yes";
    const problem = form.querySelector(".problem");
    problem.hidden = true;
    for (const input of form.elements) input.removeAttribute?.("aria-invalid");
    try {
      await work(Object.fromEntries(new FormData(form)), form);
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      if (error instanceof Refused) for (const { path } of error.errors) form.elements[path.split(".")[0]]?.setAttribute("aria-invalid", "true");
    } finally {
      delete form.dataset.busy;
    }
  };
}

async function signUp(fields, form) {
  const at = Date.now();
  const made = form?.made?.handle === fields.handle ? { country: form.made.country, tags: form.made.tags } : {};
  const { body, ms: took } = await call("/v1/users", { method: "POST", body: { ...fields, ...made }, headers: { "Idempotency-Key": secret(9) } });
  tell("write", { user: body.id, what: `Signed up @${body.handle} in ${ms(took)}`, at });
  me.password = fields.password;
  try {
    await logIn({ login: body.handle, password: fields.password }, null, body);
  } catch (error) {
    // without Redis there are accounts and no sessions
    me.user = null;
    change("log-in");
    say(`@${body.handle} is in PostgreSQL. Logging in failed: ${error.message}`, true);
  }
}

async function logIn({ login, password }, _form, known) {
  const at = Date.now();
  const device = /Mobi/.test(navigator.userAgent) ? "this phone" : "this browser";
  const { body } = await call("/v1/sessions", { method: "POST", body: { login, password, device } });
  me.token = body.token;
  me.sessionId = body.session.id;
  me.password = password;
  if (!known) tell("write", { user: body.session.userId, what: "Logged in", source: "redis", at });
  me.user = (await call(`/v1/users/${body.session.userId}`, { own: true })).body;
  show();
  tell("me");
}

async function edit(fields) {
  const at = Date.now();
  const { user } = me;
  const body = { displayName: fields.displayName, bio: fields.bio, tags: fields.tags.split(/[\s,]+/).filter(Boolean), country: fields.country ? fields.country.toUpperCase() : null };
  const answer = await call(`/v1/users/${user.id}`, { method: "PATCH", own: true, body, headers: { "If-Match": `"${user.revision}"` } });
  me.user = answer.body;
  tell("write", { user: user.id, what: `Saved revision ${answer.body.revision} in ${ms(answer.ms)}`, at });
  const focused = document.activeElement?.name;
  show();
  if (focused) pane.querySelector(`[name="${focused}"]`)?.focus();
  tell("me");
}

/** Forgets who was logged in. */
function forgetMe() {
  me.token = me.user = me.password = me.sessionId = null;
  mode = "sign-up";
  show();
  tell("me");
}

async function logOut() {
  try {
    await call("/v1/sessions/current", { method: "DELETE", own: true });
  } catch (error) {
    if (error.status !== 401) return say(error.message, true);
  }
  forgetMe();
}

async function erase() {
  if (!confirm("Erase this account from all four stores? It cannot be undone.")) return;
  const at = Date.now();
  const { user } = me;
  try {
    const { body } = await call(`/v1/users/${user.id}`, { method: "DELETE", own: true });
    tell("write", { user: user.id, what: `Erased @${user.handle}`, at });
    last.write = null;
    forgetMe();
    tell("erasure", { id: body.erasureId, handle: user.handle });
  } catch (error) {
    say(error.message, true);
  }
}

bus.addEventListener("try", async () => {
  if (me.user) forgetMe();
  mode = "sign-up";
  show();
  $("tab-people").click();
  const form = pane.querySelector("form");
  fill(form, somebody());
  form.requestSubmit();
});
bus.addEventListener("ended", forgetMe);
show();
