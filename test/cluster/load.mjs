// A client of the API that keeps its own record of what was acknowledged, and checks the system against it afterwards. It runs in a pod and
// imports nothing. SIGUSR2, or the file /tmp/stop, ends the load; then it verifies and prints one line of JSON.
// TARGET, OPERATOR_TOKEN, WORKERS (4), PAUSE_MS (80), VERIFY_MS (60000)
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const { TARGET, OPERATOR_TOKEN } = process.env;
const WORKERS = Number(process.env.WORKERS ?? 4);
const PAUSE_MS = Number(process.env.PAUSE_MS ?? 80);
// A load that is told to end before it was one goes on until it was.
const MIN_WRITES = 40;
const VERIFY_MS = Number(process.env.VERIFY_MS ?? 60_000);
const tag = randomUUID().slice(0, 8);
const password = "correct horse battery staple";
const failures = [];
const byKind = {};
let requests = 0;
let failed = 0;
let writes = 0;

async function send(op, method, path, { token, body, headers } = {}) {
  requests++;
  const at = Date.now();
  let status = 0;
  let detail = "";
  try {
    const answer = await fetch(TARGET + path, {
      method,
      headers: {
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(body ? { "content-type": "application/json" } : {}),
        ...headers,
      },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(15_000),
    });
    const text = await answer.text();
    status = answer.status;
    if (answer.ok) return { status, body: text ? JSON.parse(text) : undefined, headers: answer.headers };
    detail = text.slice(0, 200);
  } catch (error) {
    detail = `${error.message}: ${error.cause?.code ?? error.cause?.message ?? ""}`;
  }
  failed++;
  byKind[`${op} ${status}`] = (byKind[`${op} ${status}`] ?? 0) + 1;
  if (failures.length < 40) failures.push({ op, status, detail, at: new Date(at).toISOString(), ms: Date.now() - at });
  return undefined;
}

/** Repeats a write that says the same each time until it is acknowledged. */
async function insist(op, method, path, options) {
  const until = Date.now() + 120_000;
  for (;;) {
    const answer = await send(op, method, path, options);
    if (answer) {
      writes++;
      return answer;
    }
    if (Date.now() > until)
      throw new Error(`${op} is not acknowledged within two minutes: ${JSON.stringify(failures.at(-1))}`);
    await sleep(250);
  }
}

const people = [];
let made = 0;
const tracked = new Map();
/** Sessions that were acknowledged and not ended. */
let live = 0;

async function signUp() {
  const handle = `c${tag}_${made++}`;
  const body = { handle, email: `${handle}@example.org`, password, displayName: `Zero ${handle}` };
  const created = await insist("sign-up", "POST", "/v1/users", {
    token: OPERATOR_TOKEN,
    body,
    headers: { "idempotency-key": `key-${handle}` },
  });
  const person = { id: created.body.id, handle, name: body.displayName, patches: 0 };
  people.push(person);
  return person;
}

async function logIn(person) {
  const opened = await insist("log-in", "POST", "/v1/sessions", {
    token: OPERATOR_TOKEN,
    body: { login: person.handle, password },
  });
  live++;
  return opened.body.token;
}

async function worker(n) {
  const person = await signUp();
  const token = await logIn(person);
  ready();
  const event = `load_${tag}_${n}`;
  tracked.set(event, 0);
  person.token = token;
  person.event = event;
  for (let i = 0; !stopping || writes < MIN_WRITES; i++) {
    const turn = i % 10;
    if (turn === 0 || turn === 3 || turn === 6) {
      const displayName = `Name ${n} ${i}`;
      await insist("patch", "PATCH", `/v1/users/${person.id}`, { token, body: { displayName } });
      person.name = displayName;
    } else if (turn === 1 || turn === 5) {
      const events = Array.from({ length: 3 }, (_, k) => ({
        id: `${event}-${i}-${k}`,
        name: event,
        userId: person.id,
      }));
      await insist("track", "POST", "/v1/track", { token, body: { events } });
      tracked.set(event, tracked.get(event) + events.length);
    } else if (turn === 2) await send("read user", "GET", `/v1/users/${person.id}`, { token });
    else if (turn === 4) await send("search", "GET", `/v1/search?q=${person.handle}`);
    else if (turn === 7) await send("session", "GET", "/v1/sessions/current", { token });
    else if (turn === 8)
      await send("analytics", "GET", "/v1/analytics/signups?from=2020-01-01&to=2030-01-01&interval=month");
    else if (turn === 9 && i % 40 === 9) {
      const short = await logIn(person);
      // Not to be repeated: a second answer would be 401.
      if (await send("log-out", "DELETE", "/v1/sessions/current", { token: short })) live--;
    } else if (turn === 9 && i % 40 === 29) await signUp();
    await sleep(PAUSE_MS);
  }
}

const wrong = [];
/** Asks until it fits or the time is over; what does not fit is remembered. */
async function holds(what, until, probe) {
  let last;
  do {
    try {
      last = await probe();
      if (last === true) return;
    } catch (error) {
      last = error.message;
    }
    await sleep(250);
  } while (Date.now() < until);
  wrong.push(`${what}: ${JSON.stringify(last)}`);
}

async function ask(path, token) {
  const answer = await fetch(TARGET + path, {
    headers: token ? { authorization: `Bearer ${token}` } : {},
    signal: AbortSignal.timeout(5000),
  });
  if (!answer.ok) throw new Error(`${path} ${answer.status}`);
  return answer.json();
}

async function verify() {
  const until = Date.now() + VERIFY_MS;
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b) || { found: a, wanted: b };
  await Promise.all(
    people.map(async (person) => {
      await holds(`${person.handle} in the user service`, until, async () =>
        same((await ask(`/v1/users/${person.id}`)).displayName, person.name),
      );
      await holds(`${person.handle} in search`, until, async () => {
        const { hits } = await ask(`/v1/search?q=${person.handle}&limit=1`);
        return same([hits[0]?.id, hits[0]?.displayName], [person.id, person.name]);
      });
      if (!person.token) return;
      await holds(`${person.handle}'s session`, until, async () => {
        const { user } = await ask("/v1/sessions/current", person.token);
        return same(user.displayName, person.name);
      });
      await holds(`${person.handle}'s events`, until, async () => {
        const { activity } = await ask(`/v1/people/${person.id}`, OPERATOR_TOKEN);
        return same(activity?.byName?.[person.event] ?? 0, tracked.get(person.event));
      });
    }),
  );
  for (const [event, count] of tracked) {
    const query = `name=${event}&from=2020-01-01&to=2030-01-01&interval=month`;
    await holds(`events ${event}`, until, async () => same((await ask(`/v1/analytics/events?${query}`)).total, count));
  }
  const found = {};
  await holds("the stores agree", until, async () => {
    const { stores, projectors, audit } = await ask("/v1/admin/status", OPERATOR_TOKEN);
    const { total } = await ask("/v1/search?q=&limit=1");
    const signups = (await ask("/v1/analytics/signups?from=2020-01-01&to=2030-01-01&interval=month")).total;
    const users = stores.postgres.users;
    Object.assign(found, { users, profiles: stores.redis.profiles, found: total, signups, projectors, audit });
    const dead = Object.values(projectors).reduce((sum, p) => sum + p.deadLetters, 0);
    return same([stores.redis.profiles, total, dead], [users, users, 0]);
  });
  return found;
}

let stopping = false;
let waiting = WORKERS;
function ready() {
  if (--waiting === 0) console.log("loading");
}
process.on("SIGUSR2", () => {
  stopping = true;
});
const watch = setInterval(() => {
  stopping ||= existsSync("/tmp/stop");
}, 100);
const before = await ask("/v1/analytics/signups?from=2020-01-01&to=2030-01-01&interval=month");
const began = Date.now();
await Promise.all(Array.from({ length: WORKERS }, (_, n) => worker(n)));
clearInterval(watch);
const seconds = (Date.now() - began) / 1000;
const found = await verify();
const counted = { before: before.total, after: found.signups, made };
console.log(
  JSON.stringify({
    seconds,
    requests,
    writes,
    failed,
    byKind,
    failures,
    wrong,
    people: people.length,
    counted,
    found,
    live,
  }),
);
