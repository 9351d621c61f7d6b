import { emit, encodeToken, type FactEvent, uuidv7 } from "@quartet/contracts";
import { eventually, type ServiceProcess } from "@quartet/service/testing";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  asService,
  asUserService,
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

beforeAll(async () => {
  world = await createWorld();
  await world.makeStreams();
  service = await world.start({ SESSIONS_PER_USER: "5" });
  await eventually(() => service.ready(), { what: "readiness" });
});
afterAll(() => world?.dispose());
beforeEach(() => {
  world.user.before = undefined;
});

const operator = { kind: "operator" } as const;

async function known(): Promise<Person> {
  const p = newPerson();
  world.user.people.set(p.handle, p);
  await world.publish([stateOf(p)]);
  await holds(world, p);
  return p;
}

async function change(p: Person, changes: Partial<Person>): Promise<void> {
  Object.assign(p, changes, { version: p.version + 1 });
  await world.publish([stateOf(p)]);
  await holds(world, p);
}

const alive = async (token: string) => (await introspect(service, token)).status === 200;

async function endings(p: Person, n: number): Promise<{ session: string; reason: string }[]> {
  return eventually(
    async () => {
      const ended = (await world.facts()).flatMap((f: FactEvent) =>
        f.type === "quartet.session.ended.v1" && f.data.userId === p.id
          ? [{ session: f.data.sessionId, reason: f.data.reason as string }]
          : [],
      );
      return ended.length >= n ? ended : undefined;
    },
    { what: `${n} ended` },
  );
}

describe("log in", () => {
  test("gives a token of which Redis holds only the digest", async () => {
    const p = await known();
    const { token, session } = await logIn(service, p, "a phone");
    expect(session).toMatchObject({ userId: p.id, device: "a phone" });
    for (const key of await world.store.keys("*")) {
      expect(key).not.toContain(token);
      if ((await world.store.type(key)) !== "hash") continue;
      expect(JSON.stringify(await world.store.hgetall(key))).not.toContain(token);
    }
    const me = await identityOfToken(service, token);
    expect(me).toEqual({ kind: "user", userId: p.id, sessionId: session.id });
    const current = await service.call("GET", "/v1/sessions/current", { as: me });
    expect(current.body.user).toEqual({ id: p.id, handle: p.handle, displayName: p.displayName });
  });

  test("a person who is new here is there at once, and sees the own profile", async () => {
    const p = newPerson();
    world.user.people.set(p.handle, p);
    const { token } = await logIn(service, p);
    const current = await service.call("GET", "/v1/sessions/current", { as: await identityOfToken(service, token) });
    expect(current.body.user.handle).toBe(p.handle);
  });

  test("the same words for an unknown login and a wrong password", async () => {
    const p = await known();
    const answers = await Promise.all(
      [p.handle, "nobody.at.all"].map((login) =>
        service.call("POST", "/v1/sessions", { body: { login, password: "wrong password" } }),
      ),
    );
    const [a, b] = answers.map(({ status, body }) => ({ status, body }));
    expect(a?.status).toBe(401);
    expect(a).toEqual(b);
  });

  test.each<[unknown, string]>([
    [{}, "login"],
    [{ login: "a" }, "password"],
    [{ login: "", password: "x" }, "login"],
    [{ login: "a", password: "x", device: "" }, "device"],
    [{ login: "a", password: "x", device: "a\u0000b" }, "device"],
    [{ login: "a", password: "x", device: "\u2060" }, "device"],
    [{ login: "a", password: "x", device: "a\u202eb" }, "device"],
    [{ login: "a", password: "x", more: 1 }, "more"],
    [{ login: 1, password: "x" }, "login"],
  ])("%j is refused", async (body, path) => {
    const answer = await service.call("POST", "/v1/sessions", { body });
    expect(answer.status).toBe(400);
    expect(answer.body.errors.map((e: { path: string }) => e.path)).toContain(path);
  });

  test("ten failures in a minute, however many at once: no guess more, not even the right one", async () => {
    const p = await known();
    const before = world.user.verifications;
    const guess = (login: string, password: string) =>
      service.call("POST", "/v1/sessions", { body: { login, password } });
    const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => guess(p.handle, `wrong ${i}`)));
    const count = (status: number) => answers.filter((a) => a.status === status).length;
    expect([count(401), count(429)]).toEqual([10, 20]);
    expect(world.user.verifications - before).toBe(10);
    const right = await guess(p.handle.toUpperCase(), PASSWORD);
    expect(right.status).toBe(429);
    expect(Number(right.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(world.user.verifications - before).toBe(10);
    await logIn(service, await known()); // nobody else is held up
    expect((await world.store.keys("*")).filter((key) => key.includes(p.handle))).toEqual([]);
  });

  const from = (client: string, login: string, password: string) =>
    service.call("POST", "/v1/sessions", { body: { login, password }, headers: { "quartet-client": client } });

  test("one client's failures hold up that client alone, and others with them slow down instead of being locked out", async () => {
    const p = await known();
    expect((await from("192.0.2.1", p.handle, PASSWORD)).status).toBe(201);
    for (let i = 0; i < 10; i++) expect((await from("192.0.2.9", p.handle, `wrong ${i}`)).status).toBe(401);
    expect((await from("192.0.2.9", p.handle, PASSWORD)).status).toBe(429);
    // Ten in all hold nobody else up; an eleventh does, from clients that nobody knows.
    expect((await from("192.0.2.10", p.handle, "wrong")).status).toBe(401);
    const guesses = await Promise.all(
      Array.from({ length: 30 }, (_, i) => from(`198.51.100.${i}`, p.handle, `wrong ${i}`)),
    );
    expect(guesses.filter((guess) => guess.status === 401).length).toBeLessThan(5);
    for (const guess of guesses.filter(({ status }) => status !== 401)) {
      expect(guess.status).toBe(429);
      expect(Number(guess.headers.get("retry-after"))).toBeGreaterThan(0);
    }
    // The owner gets in from where a log-in had succeeded, and from elsewhere when it is its turn.
    expect((await from("192.0.2.1", p.handle, PASSWORD)).status).toBe(201);
    const answer = await eventually(
      async () => {
        const tried = await from("203.0.113.1", p.handle, PASSWORD);
        return tried.status !== 429 && tried;
      },
      { withinMs: 45_000, what: "the turn in the line" },
    );
    expect(answer.status).toBe(201);
    // A name that nobody has is treated alike.
    const nobody = `nobody_${p.handle.slice(-12)}`;
    const alike = await Promise.all(Array.from({ length: 40 }, (_, i) => from(`198.51.100.${i}`, nobody, "wrong")));
    expect(new Set(alike.map(({ status }) => status))).toEqual(new Set([401, 429]));
  });

  test("what was known of a person's clients goes with the person, and is never more than twenty", async () => {
    const p = await known();
    const clients = async () => (await world.store.keys("familiar:*")).length;
    const before = await clients();
    for (let i = 0; i < 25; i++) expect((await from(`192.0.2.${i}`, p.handle, PASSWORD)).status).toBe(201);
    expect(await clients()).toBe(before + 20);
    await change(p, { erased: true });
    expect([await clients(), await world.store.exists(`familiar-of:${p.id}`)]).toEqual([before, 0]);
  });

  test("a flood of one client fills nobody else's place", async () => {
    const p = await known();
    // User takes its time with the flood's.
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const asked = world.user.verifications;
    world.user.before = () => held;
    const flood = Array.from({ length: 200 }, (_, i) => from("127.0.0.9", `nobody_at_all_${i}`, "wrong"));
    await eventually(() => world.user.verifications - asked >= 32, { what: "the flood" });
    world.user.before = undefined;
    const own = Array.from({ length: 5 }, () => from("127.0.0.1", p.handle, PASSWORD));
    // Those beyond the flood's own bound are refused at once, while User still holds on to the others.
    const first = await Promise.race(flood);
    expect(first.status).toBe(429);
    expect(world.user.verifications - asked).toBe(32);
    release();
    expect((await Promise.all(own)).map(({ status }) => status)).toEqual(Array(5).fill(201));
    const statuses = (await Promise.all(flood)).map(({ status }) => status);
    expect(statuses.every((status) => status === 401 || status === 429)).toBe(true);
    expect((await from("127.0.0.1", p.handle, PASSWORD)).status).toBe(201);
  });

  test("many right ones at once all get in; the oldest sessions make room", async () => {
    const p = await known();
    const made = await Promise.all(Array.from({ length: 12 }, () => logIn(service, p)));
    const living = await Promise.all(made.map(({ token }) => alive(token)));
    expect(living.filter(Boolean).length).toBe(5);
    expect((await endings(p, 7)).map((e) => e.reason)).toEqual(Array(7).fill("revoked"));
  });
});

describe("revocation is immediate", () => {
  test("log out, one, all, by the operator; nobody else's", async () => {
    const [p, q] = [await known(), await known()];
    const [a, b, c, d] = [
      await logIn(service, p),
      await logIn(service, p),
      await logIn(service, p),
      await logIn(service, p),
    ];
    const as = await identityOfToken(service, a.token);
    const stranger = await identityOfToken(service, (await logIn(service, q)).token);

    const foreign = await service.call("DELETE", `/v1/sessions/${b.session.id}`, { as: stranger });
    const unknown = await service.call("DELETE", `/v1/sessions/${uuidv7()}`, { as: stranger });
    expect([foreign.status, unknown.status, await alive(b.token)]).toEqual([404, 404, true]);
    expect((await service.call("DELETE", "/v1/sessions/current")).status).toBe(401);

    const logout = await service.call("DELETE", "/v1/sessions/current", { as });
    expect([logout.status, await alive(a.token)]).toEqual([204, false]);
    expect(logout.headers.get("consistency-token")).not.toBeNull();
    expect((await service.call("DELETE", "/v1/sessions/current", { as })).status).toBe(401);
    expect((await service.call("GET", "/v1/sessions/current", { as })).status).toBe(401);

    const bs = await identityOfToken(service, b.token);
    expect((await service.call("DELETE", `/v1/sessions/${b.session.id}`, { as: bs })).status).toBe(204);
    expect(await alive(b.token)).toBe(false);
    expect((await service.call("DELETE", `/v1/sessions/${c.session.id}`, { as: operator })).status).toBe(204);
    expect(await alive(c.token)).toBe(false);
    expect((await service.call("DELETE", `/v1/sessions?userId=${p.id}`, { as: operator })).status).toBe(204);
    expect(await alive(d.token)).toBe(false);
    expect((await service.call("GET", `/v1/sessions?userId=${p.id}`, { as: operator })).body).toEqual({ sessions: [] });
    for (const as of [operator, bs])
      expect((await service.call("DELETE", "/v1/sessions?userId=nobody", { as })).status).toBe(400);
    expect(await endings(p, 4)).toEqual([
      { session: a.session.id, reason: "logout" },
      { session: b.session.id, reason: "revoked" },
      { session: c.session.id, reason: "revoked" },
      { session: d.session.id, reason: "revoked" },
    ]);
  });

  test("a token that was never given, garbage, and calls that are not for people", async () => {
    expect((await introspect(service, "qs_never")).status).toBe(401);
    expect((await introspect(service, "")).status).toBe(401);
    expect((await service.call("POST", "/internal/introspect", { body: { token: "x" } })).status).toBe(401);
    expect((await service.call("POST", "/internal/introspect", { as: operator, body: { token: "x" } })).status).toBe(
      403,
    );
  });
});

describe("a changed password", () => {
  test("ends the other sessions, also when only a later state arrives", async () => {
    const p = await known();
    const [kept, other] = [await logIn(service, p), await logIn(service, p)];
    // The state in between, with the new password, is swallowed: what arrives is a changed name after it.
    p.version++;
    await change(p, { credentialEpoch: 1, keptSessionId: kept.session.id, displayName: "later" });
    expect([await alive(kept.token), await alive(other.token)]).toEqual([true, false]);
    expect(await endings(p, 1)).toEqual([{ session: other.session.id, reason: "revoked" }]);
    const fresh = await logIn(service, p);
    await change(p, { displayName: "later still" });
    expect([await alive(kept.token), await alive(fresh.token)]).toEqual([true, true]);
    await change(p, { credentialEpoch: 2, keptSessionId: null });
    expect([await alive(kept.token), await alive(fresh.token)]).toEqual([false, false]);
  });

  test("a log-in that User answered from before it is asked again", async () => {
    const p = await known();
    const before = world.user.verifications;
    world.user.before = async () => {
      world.user.before = undefined;
      await change(p, { credentialEpoch: 1 });
    };
    const { token } = await logIn(service, p);
    expect(world.user.verifications - before).toBe(2);
    await change(p, { displayName: "unrelated" });
    expect(await alive(token)).toBe(true);
  });

  test("a log-in that is answered ahead of the stream survives what the stream then tells", async () => {
    const p = await known();
    const old = await logIn(service, p);
    Object.assign(p, { credentialEpoch: 1, version: 2 });
    const fresh = await logIn(service, p);
    expect(await alive(old.token)).toBe(false); // User's answer told it
    await world.publish([stateOf(p)]);
    await change(p, { displayName: "a later one" });
    expect(await alive(fresh.token)).toBe(true);
  });
});

describe("erasure", () => {
  const erasure = (p: Person) =>
    service.call("POST", "/internal/erasures", { as: asUserService, body: { userId: p.id, version: p.version } });
  const complete = (p: Person) => eventually(async () => (await erasure(p)).body.state === "complete");

  test("ends all sessions, forgets the profile, and confirms only then", async () => {
    const p = await known();
    const [a, b] = [await logIn(service, p), await logIn(service, p)];
    p.erased = true;
    p.version++;
    expect((await erasure(p)).body.state).toBe("pending");
    expect(await alive(a.token)).toBe(true);
    await world.publish([stateOf(p)]);
    await complete(p);
    expect([await alive(a.token), await alive(b.token)]).toEqual([false, false]);
    expect((await endings(p, 2)).map((e) => e.reason)).toEqual(["erased", "erased"]);
    expect(Object.keys(await world.store.hgetall(`profile:${p.id}`)).sort()).toEqual(["erasedAt", "version"]);
    const retained = async () =>
      (await world.store.xrange("outbox:events", "-", "+")).filter(([, fields]) =>
        JSON.stringify(fields).includes(p.id),
      );
    // Until Analytics has them the outbox can send them again; then it is told to forget them.
    expect(await retained()).not.toEqual([]);
    const cleared = await service.call("DELETE", `/internal/erasures/${p.id}/outbox`, { as: asUserService });
    expect([cleared.status, cleared.body.state]).toEqual([200, "complete"]);
    expect(await retained()).toEqual([]);
  });

  test("beats a log-in that was verified before it", async () => {
    const p = await known();
    world.user.before = async () => {
      world.user.before = undefined;
      await change(p, { erased: true });
    };
    const answer = await service.call("POST", "/v1/sessions", { body: { login: p.handle, password: PASSWORD } });
    expect(answer.status).toBe(401);
    expect((await service.call("GET", `/v1/sessions?userId=${p.id}`, { as: operator })).body.sessions).toEqual([]);
    await complete(p);
  });

  test("an old state does not bring anyone back", async () => {
    const p = await known();
    const old = stateOf(p);
    await change(p, { erased: true });
    const marker = await known();
    await world.publish([old]);
    await change(marker, { displayName: "after it" });
    expect((await world.store.hgetall(`profile:${p.id}`)).handle).toBeUndefined();
  });
});

describe("freshness", () => {
  test("as-of follows the heartbeats; a reader waits for a version or is told that it is stale", async () => {
    const p = await known();
    const as = await identityOfToken(service, (await logIn(service, p)).token);
    const at = new Date();
    await world.publish([emit.heartbeat("USERS", "user", at)]);
    await eventually(async () => {
      const answer = await service.call("GET", "/v1/sessions", { as });
      return (answer.headers.get("quartet-as-of") ?? "") >= at.toISOString();
    });
    const read = (version: number, wait: number) =>
      service.call("GET", "/v1/sessions/current", {
        as,
        headers: { "consistency-token": encodeToken({ u: [[p.id, version]] }), prefer: `wait=${wait}` },
      });
    const stale = await read(2, 1);
    expect([stale.status, stale.headers.get("quartet-freshness")]).toEqual([200, "stale"]);
    const waiting = read(2, 10);
    await change(p, { displayName: "new" });
    const fresh = await waiting;
    expect([fresh.headers.get("preference-applied"), fresh.body.user.displayName]).toEqual(["wait", "new"]);
  });

  test("the first use on another day is told, once", async () => {
    const p = await known();
    const { token, session } = await logIn(service, p);
    await world.store.hset(`session:${session.id}`, "activeDay", "2000-01-01");
    await Promise.all(Array.from({ length: 10 }, () => introspect(service, token)));
    await service.call("DELETE", `/v1/sessions/${session.id}`, { as: operator });
    await endings(p, 1);
    const mine = (await world.facts()).filter((f) => f.data.userId === p.id);
    expect(mine.map((f) => f.id)).toEqual([
      `s:${session.id}:started`,
      expect.stringMatching(`^s:${session.id}:active:\\d{4}-\\d{2}-\\d{2}$`),
      `s:${session.id}:ended`,
    ]);
  });

  test("presence and status", async () => {
    const p = await known();
    const none = await service.call("GET", `/internal/presence/${p.id}`, { as: asService });
    expect(none.body).toEqual({ activeSessions: 0, lastSeenAt: null });
    const { session } = await logIn(service, p);
    const one = await service.call("GET", `/internal/presence/${p.id}`, { as: asService });
    expect(one.body.activeSessions).toBe(1);
    expect(one.body.lastSeenAt >= session.expiresAt).toBe(false);
    await eventually(async () => {
      const { body } = await service.call("GET", "/internal/status", { as: asService });
      return (
        body.store.up &&
        body.store.sessions > 0 &&
        body.store.profiles > 0 &&
        body.projectors.session.lag !== null &&
        body.relays.session.lagSeconds !== null
      );
    });
  });
});
