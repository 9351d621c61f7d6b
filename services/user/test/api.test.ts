import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decodeToken, makeIdentities } from "@quartet/contracts";
import { keyringOf, signAs } from "@quartet/service/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, asUser, eventually, operator, PASSWORD, person, type UserProcess, World } from "./harness.ts";

const world = new World();
let user: UserProcess;
beforeAll(async () => {
  await world.start({ nats: false });
  user = await world.user({ ROLE: "all" });
});
afterAll(() => world.stop());

const patch = (id: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> =>
  user.call("PATCH", `/v1/users/${id}`, { as: id, body, headers });
const paths = (answer: Answer): string[] => answer.body.errors?.map((e: { path: string }) => e.path);

describe("a user", () => {
  test("is signed up, read, changed and removed", async () => {
    const given = person({
      email: `Ann.${randomUUID()}@Example.org`,
      bio: "line\nbreak",
      country: "AT",
      tags: ["a", "a", "b"],
    });
    const made = await user.call("POST", "/v1/users", { body: given });
    expect(made.status).toBe(201);
    const { id } = made.body;
    const { password: _, ...shown } = given;
    expect(made.body).toMatchObject({ ...shown, email: given.email.toLowerCase(), tags: ["a", "b"], revision: 1 });
    expect(made.headers.get("location")).toBe(`/v1/users/${id}`);
    expect(made.headers.get("etag")).toBe('"1"');
    expect(decodeToken(made.headers.get("consistency-token")!)).toEqual({ u: [[id, 1]] });
    expect(made.headers.get("x-request-id")).toBeTruthy();

    const seen = async (as?: Parameters<UserProcess["call"]>[2]) =>
      (await user.call("GET", `/v1/users/${id}`, as)).body;
    expect(await seen()).not.toHaveProperty("email");
    expect(await seen({ as: asUser(randomUUID()) })).not.toHaveProperty("email");
    expect((await seen({ as: id })).email).toBe(given.email.toLowerCase());
    expect((await seen({ as: operator })).email).toBe(given.email.toLowerCase());

    const same = await user.call("GET", `/v1/users/${id}`, { headers: { "if-none-match": 'W/"1", "7"' } });
    expect([same.status, same.headers.get("etag"), same.headers.get("vary")]).toEqual([304, '"1"', "Authorization"]);

    const changed = await patch(id, { bio: "", country: null }, { "if-match": '"1"' });
    expect(changed.status).toBe(200);
    expect(changed.body).toMatchObject({ bio: "", country: null, revision: 2, displayName: given.displayName });
    expect(changed.headers.get("etag")).toBe('"2"');
    expect(decodeToken(changed.headers.get("consistency-token")!)).toEqual({ u: [[id, 2]] });

    const removed = await user.call("DELETE", `/v1/users/${id}`, { as: id });
    expect(removed.status).toBe(202);
    expect(removed.headers.get("location")).toBe(`/v1/erasures/${removed.body.erasureId}`);
    expect((await user.call("GET", `/v1/users/${id}`)).status).toBe(404);
    expect((await patch(id, { bio: "x" })).status).toBe(404);
    expect((await user.call("DELETE", `/v1/users/${id}`, { as: id })).body).toEqual(removed.body);
    const erasure = await user.call("GET", `/v1/erasures/${removed.body.erasureId}`);
    expect(erasure.body).toMatchObject({ id: removed.body.erasureId, state: "pending" });
    expect(JSON.stringify(erasure.body)).not.toContain(id);
    // The email and the handle are free again.
    expect((await user.call("POST", "/v1/users", { body: given })).status).toBe(201);
  });

  test("keeps its email and its handle for itself, and a refusal names every one that is taken", async () => {
    const ann = person();
    await user.signUp(ann);
    const again = await user.call("POST", "/v1/users", { body: { ...ann, email: ann.email.toUpperCase() } });
    expect([again.status, paths(again)]).toEqual([409, ["email", "handle"]]);
    // The server's own log says that there was one, and not whose.
    const log = readFileSync(join(world.postgres.home, "logs", "postgres.log"), "utf8");
    expect(log).toContain("users_email_key");
    expect(log).not.toContain(ann.email.toLowerCase());
    const bob = await user.signUp();
    const taken = await patch(bob.id, { handle: ann.handle });
    expect([taken.status, paths(taken)]).toEqual([409, ["handle"]]);
    expect((await patch(bob.id, { handle: bob.handle, email: bob.email, currentPassword: PASSWORD })).status).toBe(200);
  });

  test("has its password changed: a new credential epoch that keeps the session which asked", async () => {
    const { id, email } = await user.signUp();
    const change = { password: "another good password", currentPassword: PASSWORD };
    expect((await patch(id, change)).status).toBe(200);
    const verify = (login: string, password: string) =>
      user.internal("POST", "/credentials/verify", { login, password });
    expect((await verify(email, "correct horse battery")).status).toBe(401);
    const right = await verify(email.toUpperCase(), "another good password");
    expect(right.body).toMatchObject({
      userId: id,
      credentialEpoch: 1,
      keptSessionId: "session-of-test",
      version: 2,
      revision: 2,
    });
    const rows = await world.rows("SELECT payload FROM outbox WHERE key = $1 AND stream = 'USERS' ORDER BY seq DESC", [
      id,
    ]);
    expect(JSON.parse(rows[0].payload).data).toMatchObject({ credentialEpoch: 1, keptSessionId: "session-of-test" });
    const [row] = await world.rows("SELECT password_hash FROM users WHERE id = $1", [id]);
    expect(row.password_hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  });

  test("has its password and its email changed by nobody but who knows the password, whatever token they have", async () => {
    const [ann, bob] = [await user.signUp(), await user.signUp()];
    const answers = async (change: object, headers = {}) => {
      const answer = await patch(ann.id, change, headers);
      return [answer.status, paths(answer)?.[0]];
    };
    const wrong = { currentPassword: "not my password" };
    for (const change of [{ password: "another good password" }, { email: person().email }, { email: bob.email }]) {
      expect(await answers(change)).toEqual([403, "currentPassword"]);
      expect(await answers({ ...change, ...wrong })).toEqual([403, "currentPassword"]);
      expect(await answers({ ...change, ...wrong }, { "if-match": '"9"' })).toEqual([412, undefined]);
    }
    expect(await answers({ currentPassword: PASSWORD })).toEqual([400, "body"]);
    expect(await answers({ email: bob.email, currentPassword: PASSWORD })).toEqual([409, "email"]);
    expect((await patch(randomUUID(), { password: "another good password" })).status).toBe(404);
    // What is not the account's own is changed without it, and a right one beside it does no harm.
    expect(await answers({ bio: "x", ...wrong })).toEqual([200, undefined]);
    expect(await answers({ email: person().email, currentPassword: PASSWORD })).toEqual([200, undefined]);
    const byOperator = { as: operator, body: { email: person().email, password: "set by the operator", ...wrong } };
    expect((await user.call("PATCH", `/v1/users/${ann.id}`, byOperator)).status).toBe(200);
    expect((await user.call("GET", `/v1/users/${ann.id}`, { as: operator })).body.revision).toBe(4);

    await world.rows("UPDATE users SET password_hash = NULL WHERE id = $1", [bob.id]);
    const none = await patch(bob.id, { email: person().email, currentPassword: PASSWORD });
    expect([none.status, paths(none)]).toEqual([403, ["currentPassword"]]);
  });

  test("has ten tries at its password from one session, however many at once", async () => {
    const { id } = await user.signUp();
    const as = (sessionId: string) => ({ kind: "user" as const, userId: id, sessionId });
    const guess = (sessionId: string, currentPassword: string) =>
      user.call("PATCH", `/v1/users/${id}`, { as: as(sessionId), body: { email: person().email, currentPassword } });
    for (let i = 0; i < 12; i++) expect((await guess("owner", PASSWORD)).status).toBe(200);
    const guesses = await Promise.all(Array.from({ length: 25 }, (_, i) => guess("thief", `wrong ${i}`)));
    const count = (status: number) => guesses.filter((answer) => answer.status === status).length;
    expect([count(403), count(429)]).toEqual([10, 15]);
    const right = await guess("thief", PASSWORD);
    expect(right.status).toBe(429);
    expect(Number(right.headers.get("retry-after"))).toBeGreaterThan(0);
    expect((await guess("owner", PASSWORD)).status).toBe(200);
  });

  test("of two changes of the password at once one is made: the other was proven by a password that is none any more", async () => {
    const { id } = await user.signUp();
    const change = (n: number) => patch(id, { password: `another good password ${n}`, currentPassword: PASSWORD });
    const answers = await Promise.all(Array.from({ length: 3 }, (_, n) => change(n)));
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 403, 403]);
    expect((await world.rows("SELECT credential_epoch FROM users WHERE id = $1", [id]))[0].credential_epoch).toBe(1);
  });

  test("whoever fails to log in learns nothing", async () => {
    const { handle } = await user.signUp();
    const answers = await Promise.all(
      [handle, "nobody_here", "nobody@example.org", "\0", ""].map((login) =>
        user.internal("POST", "/credentials/verify", { login, password: "wrong password here" }),
      ),
    );
    expect([...new Set(answers.map((a) => `${a.status} ${JSON.stringify(a.body)}`))]).toEqual([expect.any(String)]);
    expect(answers[0]!.status).toBe(401);
  });
});

describe("a flood of log-ins", () => {
  test("costs the client that sends it: another's all succeed meanwhile", async () => {
    const { handle } = await user.signUp();
    const verify = (client: string, login: string, password: string) =>
      user.call("POST", "/internal/credentials/verify", {
        as: { kind: "service", name: "session" },
        headers: { "quartet-client": client },
        body: { login, password },
      });
    let over = false;
    const statuses: number[] = [];
    const flood = Array.from({ length: 40 }, async (_, i) => {
      while (!over) statuses.push((await verify("127.0.0.9", `nobody_${i}`, "wrong")).status);
    });
    const own: number[] = [];
    // Not before the queue of the flood is full.
    await eventually(() => statuses.includes(429));
    for (let i = 0; i < 20; i++) own.push((await verify("127.0.0.1", handle, PASSWORD)).status);
    over = true;
    await Promise.all(flood);
    expect(own).toEqual(Array(20).fill(200));
  });
});

describe("bad input", () => {
  const long = "x".repeat(81);
  test.each([
    ["no email", { email: undefined }, "email"],
    ["not an address", { email: "ann@" }, "email"],
    ["two addresses", { email: "a@b.org,c@d.org" }, "email"],
    ["a long address", { email: `${"a".repeat(250)}@example.org` }, "email"],
    ["a number for an email", { email: 5 }, "email"],
    ["a NUL in the email", { email: "a\0@example.org" }, "email"],
    ["a short password", { password: "elevenchars" }, "password"],
    ["a long password", { password: "x".repeat(257) }, "password"],
    ["half a surrogate pair in the password", { password: "correct horse \ud800" }, "password"],
    ["an upper-case handle", { handle: "Ann" }, "handle"],
    ["a short handle", { handle: "ab" }, "handle"],
    ["a handle with a line break behind it", { handle: "ann\n" }, "handle"],
    ["no name", { displayName: undefined }, "displayName"],
    ["an empty name", { displayName: "" }, "displayName"],
    ["a blank name", { displayName: "   " }, "displayName"],
    ["a long name", { displayName: long }, "displayName"],
    ["a control character in the name", { displayName: "a\u0007b" }, "displayName"],
    ["a NUL in the name", { displayName: "a\0b" }, "displayName"],
    ["half a surrogate pair in the name", { displayName: "a\udc00" }, "displayName"],
    ["a long bio", { bio: "x".repeat(501) }, "bio"],
    ["a NUL in the bio", { bio: "\0" }, "bio"],
    ["no country of this world", { country: "XX" }, "country"],
    ["a lower-case country", { country: "at" }, "country"],
    ["eleven tags", { tags: Array.from({ length: 11 }, (_, i) => `t${i}`) }, "tags"],
    ["a tag with a space", { tags: ["ok", "a b"] }, "tags.1"],
    ["tags that are text", { tags: "a" }, "tags"],
    ["a field nobody knows", { admin: true }, "admin"],
    ["an id of one's own", { id: randomUUID() }, "id"],
  ])("%s is 400 and named, in a sign-up and in a change", async (_, bad, path) => {
    const body = person(bad);
    const posted = await user.call("POST", "/v1/users", { body });
    expect([posted.status, paths(posted)?.[0]]).toEqual([400, path]);
    if (Object.values(bad)[0] === undefined) return;
    const { id } = await signedUp();
    const patched = await patch(id, bad);
    expect([patched.status, paths(patched)?.[0]]).toEqual([400, path]);
  });

  let known: { id: string } | undefined;
  const signedUp = async (): Promise<{ id: string }> => (known ??= await user.signUp());

  test("the longest and strangest of what is allowed is taken and comes back as it was", async () => {
    const strange = {
      displayName: "😀".repeat(80),
      bio: "\t\r\n'\"\\;--%$1 ‮\u{10ffff}".padEnd(500, "ß"),
      tags: ["-".repeat(32)],
    };
    const made = await user.signUp({ ...strange, password: "😀".repeat(256) });
    expect((await user.call("GET", `/v1/users/${made.id}`)).body).toMatchObject(strange);
  });

  test.each([
    ["broken JSON", "{", "application/json", 400],
    ["not an object", "[]", "application/json", 400],
    ["nothing", undefined, "application/json", 400],
    ["another type", "a=b", "application/x-www-form-urlencoded", 415],
    ["too much", JSON.stringify({ bio: "x".repeat(70_000) }), "application/json", 413],
  ])("%s is refused", async (_, body, type, status) => {
    const answer = await user.call("POST", "/v1/users", { body, headers: { "content-type": type } });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([
      status,
      expect.stringContaining("problem+json"),
    ]);
  });

  test("what is not there, and what is not possible", async () => {
    const { id } = await signedUp();
    const status = async (method: string, path: string, options = {}) =>
      (await user.call(method, path, options)).status;
    expect(await status("GET", `/v1/users/${randomUUID()}`)).toBe(404);
    expect(await status("GET", "/v1/users/ann")).toBe(400);
    expect(await status("GET", "/v1/erasures/x")).toBe(404);
    expect(await status("GET", `/v1/erasures/${"A".repeat(43)}`)).toBe(404);
    expect(await status("PUT", `/v1/users/${id}`)).toBe(405);
    expect(await status("PATCH", `/v1/users/${id}`, { as: id, body: {} })).toBe(400);
    const malformed = await patch(id, { bio: "x" }, { "if-match": "1" });
    expect([malformed.status, paths(malformed)]).toEqual([400, ["If-Match"]]);
    expect((await patch(id, { bio: "x" }, { "if-match": 'W/"1"' })).status).toBe(412);
    expect((await patch(id, { bio: "x" }, { "if-match": '"99"' })).status).toBe(412);
    expect((await patch(id, { bio: "x" }, { "if-match": "*" })).status).toBe(200);
  });

  test("nobody changes or removes somebody else; nobody but a service is let in at the back", async () => {
    const { id } = await signedUp();
    const other = asUser(randomUUID());
    for (const [method, body] of [
      ["PATCH", { bio: "x" }],
      ["DELETE", undefined],
    ] as const) {
      const call = (options: object) => user.call(method, `/v1/users/${id}`, { ...(body ? { body } : {}), ...options });
      expect((await call({})).status).toBe(401);
      expect((await call({ as: other })).status).toBe(403);
      expect((await call({ as: { kind: "service", name: "search" } })).status).toBe(403);
      const forged = keyringOf("gateway", makeIdentities()).sign(asUser(id), "user");
      const elsewhere = signAs(asUser(id), "search");
      const presumed = keyringOf("session").sign(asUser(id), "user");
      for (const token of [forged, elsewhere, presumed, "x"])
        expect((await call({ headers: { "quartet-identity": token } })).status).toBe(401);
    }
    expect(
      (await user.call("PATCH", `/v1/users/${id}`, { as: operator, body: { bio: "by the operator" } })).status,
    ).toBe(200);
    for (const path of ["/internal/status", "/internal/dead"]) {
      expect((await user.call("GET", path)).status).toBe(401);
      expect((await user.call("GET", path, { as: operator })).status).toBe(403);
      expect((await user.call("GET", path, { as: other })).status).toBe(403);
    }
  });
});

describe("races", () => {
  test("of eight changes that all saw revision 1, exactly one is made", async () => {
    const { id } = await user.signUp();
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, i) => patch(id, { bio: `by ${i}` }, { "if-match": '"1"' })),
    );
    expect(answers.map((a) => a.status).sort()).toEqual([200, 412, 412, 412, 412, 412, 412, 412]);
    const winner = answers.find((a) => a.status === 200)!;
    expect((await user.call("GET", `/v1/users/${id}`)).body).toMatchObject({ bio: winner.body.bio, revision: 2 });
  });

  test("changes without a condition are all made, one after the other, and told in that order", async () => {
    const { id } = await user.signUp();
    const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => patch(id, { bio: `by ${i}` })));
    expect(answers.map((a) => a.body.revision).sort()).toEqual([2, 3, 4, 5, 6, 7, 8, 9]);
    const rows = await world.rows("SELECT stream, payload FROM outbox WHERE key = $1 ORDER BY seq", [id]);
    for (const stream of ["USERS", "FACTS"]) {
      const versions = rows.filter((r) => r.stream === stream).map((r) => JSON.parse(r.payload).version);
      expect(versions).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
  });

  test("of eight sign-ups with one handle, exactly one is made, and nothing is told of the others", async () => {
    const { handle } = person();
    const bodies = Array.from({ length: 8 }, () => person({ handle }));
    const answers = await Promise.all(bodies.map((body) => user.call("POST", "/v1/users", { body })));
    expect(answers.map((a) => a.status).sort()).toEqual([201, 409, 409, 409, 409, 409, 409, 409]);
    const told = await world.rows("SELECT count(*)::int AS n FROM outbox WHERE payload LIKE '%' || $1 || '%'", [
      handle,
    ]);
    expect(told).toEqual([{ n: 1 }]);
  });

  test("a removal and changes at once: the tombstone is the last that is told", async () => {
    const { id } = await user.signUp();
    const changes = Array.from({ length: 6 }, (_, i) => patch(id, { bio: `by ${i}` }));
    const removal = user.call("DELETE", `/v1/users/${id}`, { as: id });
    expect((await removal).status).toBe(202);
    for (const { status } of await Promise.all(changes)) expect([200, 404]).toContain(status);
    const rows = await world.rows("SELECT payload FROM outbox WHERE key = $1 AND stream = 'USERS' ORDER BY seq", [id]);
    const events = rows.map((r) => JSON.parse(r.payload));
    expect(events.at(-1).type).toBe("quartet.user.tombstone.v1");
    expect(events.map((e) => e.version)).toEqual(events.map((_, i) => i + 1));
  });
});

describe("an Idempotency-Key", () => {
  const post = (body: unknown, key: string, as?: string): Promise<Answer> =>
    user.call("POST", "/v1/users", { body, headers: { "idempotency-key": key }, ...(as ? { as } : {}) });

  test("makes eight requests at once one, and gives all of them the same answer, and later ones too", async () => {
    const [body, key] = [person(), randomUUID()];
    const answers = await Promise.all(Array.from({ length: 8 }, () => post(body, key)));
    answers.push(await post(body, key));
    const seen = answers.map((a) => [a.status, a.body, a.headers.get("etag"), a.headers.get("consistency-token")]);
    for (const one of seen) expect(one).toEqual(seen[0]);
    expect(answers[0]!.status).toBe(201);
    expect(await world.rows("SELECT count(*)::int AS n FROM outbox WHERE key = $1", [answers[0]!.body.id])).toEqual([
      { n: 2 },
    ]);
  });

  test("does not stand for another request", async () => {
    const [body, key] = [person(), randomUUID()];
    expect((await post(body, key)).status).toBe(201);
    for (const other of [{ ...body, bio: "other" }, { ...body, password: "another password" }, person()]) {
      const answer = await post(other, key);
      expect([answer.status, paths(answer)]).toEqual([422, ["Idempotency-Key"]]);
    }
    const concurrent = randomUUID();
    const mixed = await Promise.all(Array.from({ length: 6 }, () => post(person(), concurrent)));
    expect(mixed.map((a) => a.status).sort()).toEqual([201, 422, 422, 422, 422, 422]);
  });

  test("belongs to one caller, is not used up by a refusal, and goes with the person", async () => {
    const [body, key] = [person(), randomUUID()];
    const first = await post(body, key);
    expect((await post(body, key, randomUUID())).status).toBe(409);
    const refused = randomUUID();
    expect((await post(person({ handle: body.handle }), refused)).status).toBe(409);
    expect((await post(person(), refused)).status).toBe(201);
    await user.call("DELETE", `/v1/users/${first.body.id}`, { as: first.body.id });
    expect(await world.rows("SELECT 1 FROM idempotency_keys WHERE key = $1", [key])).toEqual([]);
    const again = await post(body, key);
    expect(again.status).toBe(201);
    expect(again.body.id).not.toBe(first.body.id);
  });

  test.each([["a b"], ["x".repeat(256)], ["ä"]])("%j is no key", async (key) => {
    const answer = await post(person(), key);
    expect([answer.status, paths(answer)]).toEqual([400, ["Idempotency-Key"]]);
  });
});

describe("a change and its event are one", () => {
  /** Every kind of change, each of which has to fail; then what was there before has to be there, and nothing else. */
  async function expectNothing(id: string, sabotage: string, repair: string): Promise<void> {
    const count = async () =>
      (
        await world.rows(
          "SELECT (SELECT count(*) FROM outbox)::int AS outbox, (SELECT count(*) FROM users)::int AS users, (SELECT count(*) FROM import_keys)::int AS keys",
        )
      )[0];
    const before = await count();
    const key = randomUUID();
    await world.sql.query(sabotage);
    try {
      const headers = { "idempotency-key": key };
      expect((await user.call("POST", "/v1/users", { body: person(), headers })).status).toBe(500);
      expect((await patch(id, { bio: "never" })).status).toBe(500);
      expect((await user.call("DELETE", `/v1/users/${id}`, { as: id })).status).toBe(500);
      const users = [{ key, displayName: "Never" }];
      expect((await user.internal("POST", "/import", { users })).status).toBe(500);
      expect((await user.internal("POST", "/repair", { users: [{ id, above: 5 }] })).status).toBe(500);
    } finally {
      await world.sql.query(repair);
    }
    expect(await count()).toEqual(before);
    expect((await user.call("GET", `/v1/users/${id}`)).body).toMatchObject({ bio: "", revision: 1 });
    expect(await world.rows("SELECT 1 FROM erasures WHERE user_id = $1", [id])).toEqual([]);
    expect(await world.rows("SELECT 1 FROM idempotency_keys WHERE key = $1", [key])).toEqual([]);
    expect((await user.internal("GET", "/status")).body.store).toEqual({ up: true, users: before.users });
  }

  test("no change without its event", async () => {
    const { id } = await user.signUp();
    const sabotage = "ALTER TABLE outbox ADD CONSTRAINT none CHECK (false) NOT VALID";
    await expectNothing(id, sabotage, "ALTER TABLE outbox DROP CONSTRAINT none");
  });

  test("no event without its change", async () => {
    const { id } = await user.signUp();
    const sabotage = `
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation; END $$;
      CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE OR DELETE ON users
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`;
    // It fails at the COMMIT, when everything has been written.
    await expectNothing(id, sabotage, "DROP TRIGGER refuse ON users; DROP FUNCTION refuse()");
  });
});

describe("with PostgreSQL", () => {
  const everything = (id: string): Promise<Answer>[] => [
    user.call("POST", "/v1/users", { body: person() }),
    user.call("GET", `/v1/users/${id}`),
    patch(id, { bio: "while it was away" }),
    user.call("DELETE", `/v1/users/${randomUUID()}`, { as: operator }),
    user.call("GET", `/v1/erasures/${"A".repeat(43)}`),
    user.internal("POST", "/credentials/verify", { login: "nobody", password: "nobody's password" }),
    user.internal("POST", "/import", { users: [{ key: "away", displayName: "Away" }] }),
  ];

  test.each(["frozen", "dead"] as const)("%s, everything is a 503 soon, and then works again", async (how) => {
    const { id } = await user.signUp();
    if (how === "frozen") world.postgres.freeze();
    else await world.postgres.kill();
    try {
      for (let round = 0; round < 3; round++) {
        const start = performance.now();
        for (const answer of await Promise.all(everything(id))) {
          expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
          expect(answer.body.detail).toContain("postgres");
        }
        // Its deadline is one second; the bound is far from it for a busy machine's sake, and farther from hanging.
        expect(performance.now() - start).toBeLessThan(4000);
      }
      expect((await user.internal("GET", "/status")).body.store).toEqual({ up: false });
      expect((await fetch(`${user.admin}/livez`)).status).toBe(200);
      expect((await fetch(`${user.admin}/readyz`)).status).toBe(503);
    } finally {
      if (how === "frozen") world.postgres.thaw();
      else await world.postgres.start();
    }
    await eventually(async () => (await fetch(`${user.admin}/readyz`)).status === 200);
    const patched = await eventually(async () => {
      const answer = await patch(id, { bio: "back" });
      return answer.status === 200 && answer;
    });
    const versions = await world.rows("SELECT payload FROM outbox WHERE key = $1 AND stream = 'USERS' ORDER BY seq", [
      id,
    ]);
    // Whether the change that was answered by 503 was made is not known; that its event was written with it or not at all is.
    expect(versions.map((r) => JSON.parse(r.payload).revision)).toEqual(
      Array.from({ length: patched.body.revision }, (_, i) => i + 1),
    );
  });
});
