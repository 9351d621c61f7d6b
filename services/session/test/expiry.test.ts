import type { FactEvent } from "@quartet/contracts";
import { eventually, type ServiceProcess } from "@quartet/service/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createWorld, holds, introspect, logIn, newPerson, type Person, stateOf, type World } from "./world.ts";

let world: World;
let service: ServiceProcess;

beforeAll(async () => {
  world = await createWorld();
  await world.makeStreams();
  service = await world.start({ SESSION_TTL_SECONDS: "1", SESSION_MAX_SECONDS: "3" });
  await eventually(() => service.ready(), { what: "readiness" });
});
afterAll(() => world?.dispose());

async function known(): Promise<Person> {
  const p = newcomer();
  await world.publish([stateOf(p)]);
  await holds(world, p);
  return p;
}

const operator = { kind: "operator" } as const;
const alive = async (token: string) => (await introspect(service, token)).status === 200;
const endedOf = (facts: FactEvent[], session: string) =>
  facts.flatMap((f) => (f.type === "quartet.session.ended.v1" && f.data.sessionId === session ? [f] : []));
const ending = (session: string) =>
  eventually(async () => endedOf(await world.facts(), session)[0], { what: "the end of the session" });

test("a session that is not used ends at its time, by the sweep and without anyone asking", async () => {
  const { token, session } = await logIn(service, await known());
  const ended = await ending(session.id);
  expect(ended.data).toMatchObject({ reason: "expired", durationSeconds: 1 });
  expect(ended.time).toBe(session.expiresAt);
  expect(await alive(token)).toBe(false);
});

test("each use moves the end, up to the most a session may last", async () => {
  const { token, session } = await logIn(service, await known());
  let longest = 0;
  for (let last = performance.now(); await alive(token); last = performance.now()) {
    longest = Math.max(longest, performance.now() - last);
  }
  const ended = await ending(session.id);
  expect(ended.data.reason).toBe("expired");
  expect(ended.data.durationSeconds).toBeLessThanOrEqual(3);
  // Unless this machine stood still for as long as a session lasts.
  if (longest < 800) expect(ended.data.durationSeconds).toBe(3);
});

test("a token is refused at its time, and so are its listings, while the sweep is away", async () => {
  await service.kill();
  service = await world.start({ SESSION_TTL_SECONDS: "1", SESSION_MAX_SECONDS: "3", ROLE: "api" });
  await eventually(() => service.ready());
  const q = newcomer(); // no projector runs: the profile comes with the log-in
  const { token, session } = await logIn(service, q);
  await eventually(async () => {
    const [seconds, micros] = await world.store.time();
    return Number(seconds) * 1000 + Number(micros) / 1000 > Date.parse(session.expiresAt);
  });
  expect(await alive(token)).toBe(false);
  const mine = { kind: "user", userId: q.id, sessionId: session.id } as const;
  expect((await service.call("GET", "/v1/sessions/current", { as: mine })).status).toBe(401);
  expect((await service.call("GET", "/v1/sessions", { as: mine })).status).toBe(401);
  expect((await service.call("GET", `/v1/sessions?userId=${q.id}`, { as: operator })).body.sessions).toEqual([]);
  expect(await world.store.exists(`session:${session.id}`)).toBe(1); // still to be swept
  expect((await service.call("DELETE", `/v1/sessions/${session.id}`, { as: mine })).status).toBe(404);
  await service.kill();
  service = await world.start({ SESSION_TTL_SECONDS: "1", SESSION_MAX_SECONDS: "3" });
  await eventually(() => service.ready());
  expect((await ending(session.id)).data).toMatchObject({ reason: "expired", durationSeconds: 1 });
});

test("revoked, expired and erased at the same time: one end for each session", async () => {
  const people = await Promise.all(Array.from({ length: 4 }, known));
  const sessions = (
    await Promise.all(
      people.flatMap((p) => Array.from({ length: 8 }, async () => ({ p, made: await logIn(service, p) }))),
    )
  ).map(({ p, made }) => ({ p, id: made.session.id, token: made.token }));
  for (const p of people.slice(0, 2)) Object.assign(p, { erased: true, version: 2 });
  const everything: Promise<unknown>[] = [
    ...sessions.map(({ id }) => service.call("DELETE", `/v1/sessions/${id}`, { as: operator })),
    ...sessions.map(({ id, p }) =>
      service.call("DELETE", "/v1/sessions/current", { as: { kind: "user", userId: p.id, sessionId: id } }),
    ),
    ...people.map((p) => service.call("DELETE", `/v1/sessions?userId=${p.id}`, { as: operator })),
    ...sessions.map(({ token }) => introspect(service, token)),
    world.publish(people.map(stateOf)),
  ];
  // Some are left to expire.
  const left = await Promise.all(people.slice(2).map((p) => logIn(service, p)));
  await Promise.all(everything);
  const all = [...sessions.map((s) => s.id), ...left.map((l) => l.session.id)];
  await eventually(async () => {
    const facts = await world.facts();
    return all.every((id) => endedOf(facts, id).length > 0);
  });
  // A second end could still be on its way: a later event of the same outbox comes after it.
  const { session } = await logIn(service, newcomer());
  await ending(session.id);
  const facts = await world.facts();
  for (const id of all) expect(endedOf(facts, id)).toHaveLength(1);
  expect(await world.store.zcard("expiries")).toBe(0);
  const keys = (await world.store.keys("*")).filter((k) => /^(session:|token:|sessions-of:)/.test(k));
  expect(keys).toEqual([]);
});

function newcomer(): Person {
  const p = newPerson();
  world.user.people.set(p.handle, p);
  return p;
}
