import type { FactEvent } from "@quartet/contracts";
import { eventually, type ServiceProcess } from "@quartet/service/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  asService,
  createWorld,
  holds,
  identityOfToken,
  introspect,
  logIn,
  newPerson,
  PASSWORD,
  type Person,
  stateOf,
  type World,
} from "./world.ts";

let world: World;
let service: ServiceProcess;
let person: Person;

beforeAll(async () => {
  world = await createWorld();
  await world.makeStreams();
  service = await world.start();
  await eventually(() => service.ready(), { what: "readiness" });
  person = newPerson();
  world.user.people.set(person.handle, person);
  await world.publish([stateOf(person)]);
  await holds(world, person);
});
afterAll(() => world?.dispose());

const enter = () => service.call("POST", "/v1/sessions", { body: { login: person.handle, password: PASSWORD } });
const ids = (facts: FactEvent[]) => facts.map((f) => f.id);

/** A person's change, told on USERS, is in the store. */
async function follows(): Promise<void> {
  person.version++;
  person.displayName = `The ${person.version}.`;
  await eventually(async () => {
    await world.publish([stateOf(person)]);
    return true;
  });
  await holds(world, person);
}

test("Redis frozen: every call is 503 and says when to come again; afterwards all is as it was", async () => {
  const { token } = await logIn(service, person);
  const as = await identityOfToken(service, token);
  world.redis.freeze();
  try {
    const answers = await Promise.all([
      enter(),
      introspect(service, token),
      service.call("GET", "/v1/sessions/current", { as }),
      service.call("GET", "/v1/sessions", { as }),
      service.call("DELETE", "/v1/sessions/current", { as }),
      service.call("GET", `/internal/presence/${person.id}`, { as: asService }),
    ]);
    for (const answer of answers) {
      expect(answer.status).toBe(503);
      expect(answer.headers.get("retry-after")).toMatch(/^\d+$/);
      expect(answer.body.detail).not.toMatch(/127\.0\.0\.1|session_service/);
    }
    const status = await service.call("GET", "/internal/status", { as: asService });
    expect([status.status, status.body.store]).toEqual([200, { up: false }]);
    expect((await fetch(`${service.adminUrl}/livez`)).status).toBe(200);
    expect(await service.ready()).toBe(false);
  } finally {
    world.redis.thaw();
  }
  await eventually(() => service.ready());
  await eventually(async () => (await enter()).status === 201);
  await follows();
});

test("Redis killed: sessions, revocations and the outbox are as they were acknowledged", async () => {
  const [kept, gone] = [await logIn(service, person), await logIn(service, person)];
  await service.call("DELETE", `/v1/sessions/${gone.session.id}`, { as: { kind: "operator" } });
  await world.redis.kill();
  expect((await introspect(service, kept.token)).status).toBe(503);
  await world.redis.start();
  await eventually(async () => (await introspect(service, kept.token)).status === 200);
  expect((await introspect(service, gone.token)).status).toBe(401);
  await eventually(async () => {
    const found = ids(await world.facts());
    return [`s:${kept.session.id}:started`, `s:${gone.session.id}:started`, `s:${gone.session.id}:ended`].every((id) =>
      found.includes(id),
    );
  });
  await follows();
});

test("Redis full: nobody new gets in, who is in stays in and can leave", async () => {
  const { token, session } = await logIn(service, person);
  const as = await identityOfToken(service, token);
  // A day ago: this use wants to write an event.
  await world.store.hset(`session:${session.id}`, "activeDay", "2000-01-01", "lastSeenAt", "0");
  await world.store.config("SET", "maxmemory", "1");
  try {
    const refused = await enter();
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
    expect((await introspect(service, token)).status).toBe(200);
    expect((await service.call("GET", "/v1/sessions/current", { as })).status).toBe(200);
    expect((await service.call("DELETE", "/v1/sessions/current", { as })).status).toBe(204);
    expect((await introspect(service, token)).status).toBe(401);
  } finally {
    await world.store.config("SET", "maxmemory", "0");
  }
  await eventually(async () => ids(await world.facts()).includes(`s:${session.id}:ended`));
  await eventually(async () => (await enter()).status === 201);
});

test("NATS frozen and killed: sessions go on, and their events follow, each once", async () => {
  world.nats.freeze();
  const made = [];
  try {
    for (let i = 0; i < 3; i++) made.push(await logIn(service, person));
    const as = await identityOfToken(service, made[0]?.token ?? "");
    expect((await service.call("GET", "/v1/sessions/current", { as })).body.user.id).toBe(person.id);
    expect((await service.call("DELETE", "/v1/sessions/current", { as })).status).toBe(204);
    expect(await service.ready()).toBe(true);
  } finally {
    world.nats.thaw();
  }
  await world.nats.kill();
  made.push(await logIn(service, person));
  await world.nats.start();
  const wanted = [...made.map((m) => `s:${m.session.id}:started`), `s:${made[0]?.session.id}:ended`];
  await eventually(async () => {
    const found = ids(await world.facts().catch(() => []));
    return wanted.every((id) => found.includes(id));
  });
  await follows();
  const found = ids(await world.facts());
  expect(found.filter((id) => wanted.includes(id)).length).toBe(wanted.length);
});

test("User down: nobody new gets in, who is in stays", async () => {
  const { token } = await logIn(service, person);
  world.user.before = async () => {
    throw new Error("down");
  };
  // The server breaks the connection off without an answer.
  const refused = await enter();
  expect(refused.status).toBe(503);
  expect(refused.headers.get("retry-after")).toMatch(/^\d+$/);
  world.user.before = undefined;
  const as = await identityOfToken(service, token);
  expect((await service.call("GET", "/v1/sessions/current", { as })).status).toBe(200);
  await eventually(async () => (await enter()).status === 201);
});

test("the process killed: another goes on, and no event is missing", async () => {
  const made = await Promise.all(Array.from({ length: 20 }, () => logIn(service, person)));
  await service.kill();
  service = await world.start();
  await eventually(() => service.ready());
  const wanted = made.map((m) => `s:${m.session.id}:started`);
  await eventually(
    async () => {
      const found = ids(await world.facts());
      return wanted.every((id) => found.includes(id));
    },
    { withinMs: 45_000 },
  );
  await follows();
});
