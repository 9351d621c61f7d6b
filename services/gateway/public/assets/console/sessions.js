import { bus, call, me, tell } from "./api.js";
import { $, el, say, when } from "./dom.js";

/** One's own sessions: seen, revoked, and one more opened as if from another device. */
const pane = $("sessions");
let sessions = [];

async function load() {
  if (!me.token) {
    sessions = [];
    return draw();
  }
  try {
    sessions = (await call("/v1/sessions", { own: true, fresh: true, wait: 2 })).body.sessions;
    draw();
  } catch (error) {
    if (error.status === 401) return tell("ended");
    draw(error.status === 503 ? "Sessions are down. Search, analytics and everybody's profile go on." : error.message);
  }
}

function draw(problem) {
  const head = el("h2", {}, "Your sessions ", el("small", {}, "Redis, the truth"));
  if (!me.user) {
    pane.replaceChildren(head, el("p", { class: "empty" }, "Sign up or log in first. ", el("button", { type: "button", class: "primary", onclick: () => tell("try", {}) }, "Sign somebody up")));
    return;
  }
  pane.replaceChildren(
    head,
    el("p", { class: "note" }, "A revoked token is refused from the moment of its revocation: it is asked about at every request."),
    el("ul", { class: "sessions", "aria-label": "Sessions" }, sessions.map((session) => {
      const here = session.id === me.sessionId;
      return el("li", {}, el("div", {}, el("b", {}, session.device || "a device"), here && el("span", { class: "chip" }, "this one"), el("small", {}, `since ${when(session.createdAt)}, until ${when(session.expiresAt)}`)),
        el("button", { type: "button", "aria-label": `Revoke ${session.device || "a device"}`, onclick: () => revoke(session.id, here) }, "Revoke"));
    })),
    problem ? el("p", { class: "problem", role: "alert" }, problem) : "",
    el("p", { class: "row" },
      el("button", { type: "button", class: "primary", onclick: another }, "Log in on another device"),
      el("button", { type: "button", onclick: revokeAll }, "Revoke all")),
  );
}

const devices = ["a phone", "a tablet", "the office", "a library", "a fridge"];
async function another() {
  const at = Date.now();
  try {
    await call("/v1/sessions", { method: "POST", body: { login: me.user.handle, password: me.password, device: devices[sessions.length % devices.length] } });
    tell("write", { user: me.user.id, what: "Logged in on another device", source: "redis", at });
    load();
  } catch (error) {
    say(error.message, true);
  }
}

async function revoke(id, here) {
  const at = Date.now();
  try {
    await call(`/v1/sessions/${id}`, { method: "DELETE", own: true });
    tell("write", { user: me.user.id, what: "Revoked a session", source: "redis", at });
    if (here) tell("ended");
    else load();
  } catch (error) {
    say(error.message, true);
  }
}

async function revokeAll() {
  try {
    await call("/v1/sessions", { method: "DELETE", own: true });
    tell("ended");
    say("All sessions are revoked, this one too.");
  } catch (error) {
    say(error.message, true);
  }
}

bus.addEventListener("me", () => {
  if (!$("panel-sessions").hidden || !me.user) load();
});
bus.addEventListener("tab", ({ detail }) => detail === "sessions" && load());
draw();
