import { readFileSync } from "node:fs";
import { join } from "node:path";
import { freeze, revive } from "@quartet/cli/control";
import { emit, subjects, uuidv7 } from "@quartet/contracts";
import { connect, type JetStreamManager, type NatsConnection } from "nats";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { batches, importPeople, post } from "../../chaos/bulk.ts";
import { Client, eventually, logIn, PASSWORD, signUp } from "../lib/client.ts";
import { commandOn } from "../lib/commands.ts";
import { forget, type Launched, launch } from "../lib/launch.ts";

/** FACTS gets 8.8 MB of it and USERS 7.5 MB. */
const STORE = "24MB";
/** Ten times as much as that for USERS, for what it could not take. */
const LARGER = "240MB";
const EVENTS = 20_000;
const EVER = "from=1970-01-01&to=2100-01-01";
const MONTHS = `${EVER}&interval=month`;

let system: Launched;
let client: Client;
let nats: NatsConnection;
let jsm: JetStreamManager;

async function start(store: string, home?: string): Promise<void> {
  system = await launch({ ...(home ? { home } : {}), env: { NATS_STORE_BYTES: store, RATE_LIMITS: "off" } });
  client = new Client(system.url, system.operatorToken);
  const { nats: passwords } = JSON.parse(readFileSync(join(system.home, "credentials.json"), "utf8"));
  nats = await connect({ servers: `127.0.0.1:${runFile().engines.nats.port}`, user: "admin", pass: passwords.admin });
  jsm = await nats.jetstreamManager();
}
const runFile = () => JSON.parse(readFileSync(join(system.home, "run.json"), "utf8"));

beforeAll(() => start(STORE));
afterAll(async () => {
  await nats?.close();
  await system?.stop();
  if (system) forget(system.home);
});

const target = () => ({ url: system.url, operatorToken: system.operatorToken }) as Parameters<typeof importPeople>[0];
const figure = async (service: string, pattern: RegExp): Promise<number | undefined> => {
  const page = await fetch(`http://127.0.0.1:${runFile().services[service].adminPort}/metrics`);
  const [, value] = pattern.exec(await page.text()) ?? [];
  return value === undefined ? undefined : Number(value);
};
/** For how long the relay of a service owes a stream what it did not take; 0: it owes nothing. */
const owed = (source: string, stream: string) =>
  figure(source, new RegExp(`^quartet_outbox_owed_seconds\\{source="${source}",stream="${stream}"\\} (\\S+)$`, "m"));
const purged = () => figure("user", /^quartet_stream_purged_total\{stream="FACTS"\} (\d+)$/m);
const track = (events: object[]) => client.post("/v1/track", { events }, { token: client.operatorToken });
const totalOf = async (name: string) => (await client.get(`/v1/analytics/events?name=${name}&${MONTHS}`)).body.total;
const status = async (token: string) => (await client.get("/v1/sessions/current", { token })).status;
const isFound = async ({ id, handle }: { id: string; handle: string }): Promise<boolean> =>
  (await client.get(`/v1/search?q=${handle}`)).body.hits.some((hit: { id: string }) => hit.id === id);

async function allClean(): Promise<void> {
  for (const [source, stream] of [
    ["user", "USERS"],
    ["user", "FACTS"],
    ["session", "FACTS"],
  ] as const) {
    await eventually(`${source} owes ${stream} nothing`, async () => (await owed(source, stream)) === 0, 120_000);
  }
  const audit = await commandOn(system, "audit", "--timeout", "120").done;
  expect(audit.code, audit.output).toBe(0);
}

describe("full streams", () => {
  it("more events than FACTS has room for: it forgets what Analytics has sealed, and everything counts once", async () => {
    const { config } = await jsm.streams.info("FACTS");
    const event = (i: number) => ({ name: "long.fill", id: `fill-${i}`, properties: { n: i, fill: "x".repeat(500) } });
    await batches(EVENTS, async (from, to) => {
      // Refused when it is too much at a time, and taken again by itself.
      await post(target(), "/v1/track", { events: Array.from({ length: to - from }, (_, i) => event(from + i)) });
    });
    const bytes = JSON.stringify(event(0)).length * EVENTS;
    expect(bytes).toBeGreaterThan(config.max_bytes);
    const { token } = await track([event(0)]);
    await client.get("/v1/analytics/sessions", { after: token });
    expect(await totalOf("long.fill")).toBe(EVENTS);
    expect(await purged()).toBeGreaterThan(0);
    expect((await jsm.streams.info("FACTS")).state.messages).toBeLessThan(EVENTS);
    await allClean();

    // A rebuild has only the rest of them from FACTS.
    const rebuild = await commandOn(system, "rebuild", "analytics").done;
    expect(rebuild.code, rebuild.output).toBe(0);
    expect(await totalOf("long.fill")).toBe(EVENTS);
    await allClean();
  });

  it("FACTS full to the last byte: people come, go and are locked out as ever, and all is counted afterwards", async () => {
    const person = await signUp(client);
    const [kept, other] = [await logIn(client, person), await logIn(client, person)];
    const leaving = await signUp(client);
    const { token: leavingToken } = await logIn(client, leaving);
    await client.get("/v1/analytics/sessions", { after: leaving.created });
    for (const one of [person, leaving]) await eventually("both are found", () => isFound(one));
    const { token: settled } = await track([{ name: "long.settled" }]);
    await client.get("/v1/analytics/sessions", { after: settled });
    const sessionsBefore = (await client.get(`/v1/analytics/sessions?${EVER}`)).body;
    const signupsBefore = (await client.get(`/v1/analytics/signups?${MONTHS}`)).body.total;

    // While Analytics applies nothing, nothing may be purged.
    freeze(system.home, "clickhouse");
    const js = nats.jetstream();
    let fillers = 0;
    for (const size of [500, 100, 1]) {
      for (let full = false; !full; ) {
        const fact = { name: "long.filler", userId: null, properties: { fill: "x".repeat(size) } };
        const { event, subject } = emit.track(`t:${uuidv7()}`, fact, { time: new Date() });
        full = await js.publish(subject, JSON.stringify(event)).then(
          () => false,
          () => true,
        );
        if (!full) fillers++;
      }
    }
    const refused = await track([{ name: "long.refused" }]);
    expect([refused.status, refused.body.type]).toEqual([503, "urn:quartet:problem:log-full"]);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);

    const newcomer = await signUp(client);
    const sessions = [await logIn(client, newcomer), await logIn(client, newcomer)] as const;
    expect((await client.delete("/v1/sessions/current", { token: sessions[0].token })).status).toBe(204);
    expect(await status(sessions[0].token)).toBe(401);
    expect(await status(sessions[1].token)).toBe(200);
    await eventually("the newcomer is found", () => isFound(newcomer));
    const body = { password: `${PASSWORD} 2`, currentPassword: PASSWORD };
    expect((await client.patch(`/v1/users/${person.id}`, body, { token: kept.token })).status).toBe(200);
    await eventually("the other session has ended", async () => (await status(other.token)) === 401);
    expect(await status(kept.token)).toBe(200);

    const erasure = await client.delete(`/v1/users/${leaving.id}`, { token: leavingToken });
    expect(erasure.status).toBe(202);
    const receipts = async () => (await client.get(`/v1/erasures/${erasure.body.erasureId}`)).body;
    await eventually("Search has erased", async () => (await receipts()).stores.search.state === "complete");
    await eventually("it cannot be logged in with", async () => (await status(leavingToken)) === 401);
    expect((await client.get(`/v1/users/${leaving.id}`)).status).toBe(404);
    for (const source of ["user", "session"]) {
      await eventually(`${source} owes FACTS something`, async () => ((await owed(source, "FACTS")) ?? 0) > 0);
    }
    // What is owed has not been counted: the rest is not said before it is true.
    expect(await receipts()).toMatchObject({
      state: "pending",
      stores: { analytics: { state: "pending" }, user: { state: "pending" } },
    });

    revive(system.home, "clickhouse");
    await eventually(
      "it is tracked again",
      async () => (await track([{ name: "long.after" }])).status === 202,
      120_000,
    );
    await eventually("the erasure", async () => (await receipts()).state === "complete", 120_000);
    await allClean();
    const { token } = await track([{ name: "long.last" }]);
    await client.get("/v1/analytics/sessions", { after: token });
    const now = (await client.get(`/v1/analytics/sessions?${EVER}`)).body;
    expect(now.started - sessionsBefore.started).toBe(2);
    const ended = (key: string) => now.ended[key] - sessionsBefore.ended[key];
    expect({ logout: ended("logout"), revoked: ended("revoked"), erased: ended("erased") }).toEqual({
      logout: 1,
      revoked: 1,
      erased: 1,
    });
    expect((await client.get(`/v1/analytics/signups?${MONTHS}`)).body.total).toBe(signupsBefore + 1);
    expect(await totalOf("long.filler")).toBe(fillers);
    expect(await totalOf("long.fill")).toBe(EVENTS);
    expect(await totalOf("long.refused")).toBe(0);
    // Of whom was erased nothing is left.
    expect(await isFound(leaving)).toBe(false);
    const messages = await jsm.streams.info("FACTS", { subjects_filter: subjects.factsOf(leaving.id) });
    expect(messages.state.subjects ?? {}).toEqual({});
  });

  it("USERS full: it is said, everything else goes on, and with a larger store all follows", async () => {
    const person = await signUp(client);
    const [kept, other] = [await logIn(client, person), await logIn(client, person)];
    await eventually("found", () => isFound(person));
    let people = 0;
    while (((await owed("user", "USERS")) ?? 0) === 0) {
      const from = people;
      const bio = "☃".repeat(500);
      await importPeople(target(), 500, (i) => ({ key: `full-${from + i}`, displayName: `Full ${from + i}`, bio }));
      people += 500;
    }
    // What needs PostgreSQL or Redis alone is answered as ever, and what happened is counted.
    const newcomer = await signUp(client);
    const { token } = await logIn(client, newcomer);
    expect(await status(token)).toBe(200);
    const body = { password: `${PASSWORD} 2`, currentPassword: PASSWORD };
    expect((await client.patch(`/v1/users/${person.id}`, body, { token: kept.token })).status).toBe(200);
    const tracked = await track([{ name: "long.users.full" }]);
    expect(tracked.status).toBe(202);
    await client.get("/v1/analytics/sessions", { after: tracked.token });
    await eventually("the sign-up is counted", async () => (await owed("user", "FACTS")) === 0);
    // Nobody claims what is not so.
    const { headers } = await client.get(`/v1/search?q=${newcomer.handle}`, {
      after: newcomer.created,
      headers: { Prefer: "wait=1" },
    });
    expect(headers.get("quartet-freshness")).toBe("stale");

    // What the runbook says to do.
    const { home } = system;
    await nats.close();
    await system.stop();
    await start(LARGER, home);
    await eventually("the newcomer is found", () => isFound(newcomer));
    await eventually("the other session has ended", async () => (await status(other.token)) === 401);
    expect(await status(kept.token)).toBe(200);
    await allClean();
  });
});
