import { emit } from "@quartet/contracts";
import { fixtures } from "@quartet/contracts/fixtures";
import { eventually, type ServiceProcess } from "@quartet/service/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  asService,
  asUserService,
  createWorld,
  holds,
  introspect,
  logIn,
  newPerson,
  type Person,
  stateOf,
  type World,
} from "./world.ts";

let world: World;
let service: ServiceProcess;
let beat: NodeJS.Timeout;
const people = Array.from({ length: 400 }, () => newPerson());

beforeAll(async () => {
  world = await createWorld();
  await world.makeStreams();
  service = await world.start();
  await world.publish(people.map(stateOf));
  await Promise.all(people.map((p) => holds(world, p)));
  const say = () => world.publish([emit.heartbeat("USERS", "user", new Date())]).catch(() => {});
  beat = setInterval(() => void say(), 250);
});
afterAll(async () => {
  clearInterval(beat);
  await world?.dispose();
});

const state = async () => (await service.call("GET", "/internal/rebuild", { as: asService })).body;
const begin = () => service.call("POST", "/internal/rebuild", { as: asService });
const complete = () =>
  eventually(async () => (await state()).state === "complete", { withinMs: 60_000, what: "the rebuild" });
const digests = async () => {
  const { body } = await service.call("GET", "/internal/digests?fresh=true", { as: asUserService });
  return body.buckets as { count: number; digest: string }[];
};
const next = (p: Person, fields: Partial<Person>) => Object.assign(p, fields, { version: p.version + 1 });

/** All copies, as they are. */
async function copies(): Promise<Record<string, unknown>> {
  const keys = (await world.store.keys("profile:*")).sort();
  return Object.fromEntries(await Promise.all(keys.map(async (key) => [key, await world.store.hgetall(key)])));
}

test("rebuilt equals incremental, under writes, log-ins and an erasure, with a SIGKILL in the middle; sessions stay", async () => {
  for (const p of people) world.user.people.set(p.handle, p);
  const [me, gone, forged] = people as [Person, Person, Person];
  const { token } = await logIn(service, me);
  // By hand: nothing of it is in the log.
  await world.store.hset(`profile:${forged.id}`, "displayName", "Forged", "version", 4_000_000);
  await world.store.hset("profile:01a00000-0000-7000-8000-000000000abc", "version", 1, "revision", 1, "handle", "x");
  await world.store.del(`profile:${(people[3] as Person).id}`);

  expect((await begin()).status).toBe(202);
  expect((await begin()).status).toBe(409);
  await service.kill();
  service = await world.start();
  await world.publish([stateOf(next(gone, { erased: true }))]);
  let asked = 0;
  let busy = true;
  const reading = (async () => {
    while (busy) {
      const found = await introspect(service, token);
      // A busy machine may answer 503; a token that is good is never refused, and a profile never missing.
      expect([200, 503]).toContain(found.status);
      if (found.status !== 200) continue;
      const { userId, sessionId } = found.body;
      const answer = await service.call("GET", "/v1/sessions/current", { as: { kind: "user", userId, sessionId } });
      expect([200, 503]).toContain(answer.status);
      if (answer.status === 200) expect(answer.body.user).toMatchObject({ handle: me.handle });
      asked++;
    }
  })();
  reading.catch(() => {});
  const writing = (async () => {
    for (let i = 10; busy; i = 10 + ((i + 1) % 300))
      await world.publish([stateOf(next(people[i] as Person, { displayName: `N${i}` }))]);
  })();
  // It too may be told 503 by a busy machine, and tries again.
  const late = await eventually(() => logIn(service, people[350] as Person).catch(() => undefined));
  await complete();
  busy = false;
  await Promise.all([reading, writing]);
  expect(asked).toBeGreaterThan(0);
  await Promise.all(people.map((p) => holds(world, p)));
  for (const p of people) {
    const copy = await world.store.hgetall(`profile:${p.id}`);
    if (p.erased) expect(Object.keys(copy).sort()).toEqual(["erasedAt", "version"]);
    else expect(copy).toMatchObject({ handle: p.handle, displayName: p.displayName, version: String(p.version) });
  }
  expect(await world.store.exists("profile:01a00000-0000-7000-8000-000000000abc")).toBe(0);
  await eventually(async () => (await introspect(service, late.token)).status === 200);
  await eventually(async () => (await world.store.keys("refill*")).length === 0, { what: "tidiness" });

  // Once more without writes: the very same copies and digests.
  const [before, sums] = [await copies(), await digests()];
  expect((await begin()).status).toBe(202);
  await complete();
  expect(await copies()).toEqual(before);
  await eventually(async () => JSON.stringify(await digests()) === JSON.stringify(sums));
  expect(sums.reduce((n, b) => n + b.count, 0)).toBe(people.length - 1);
}, 240_000);

test("events of every past version are taken over", async () => {
  const js = (await world.nc()).jetstream();
  const kept = fixtures().filter(({ subject }) => subject.startsWith("users."));
  for (const { subject, event } of kept) await js.publish(subject, JSON.stringify(event));
  for (const { subject, event } of kept) {
    const id = subject.slice("users.".length);
    const key = `profile:${id}`;
    await eventually(async () => (await world.store.hget(key, "version")) === String(event.version), { what: subject });
    const gone = (await world.store.hexists(key, "erasedAt")) === 1;
    expect(gone).toBe(event.type.includes("tombstone"));
  }
});
