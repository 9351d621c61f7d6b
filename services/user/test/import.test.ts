import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Json, person, type UserProcess, World } from "./harness.ts";

const world = new World();
let user: UserProcess;
beforeAll(async () => {
  await world.start({ nats: false });
  user = await world.user({ ROLE: "api" });
});
afterAll(() => world.stop());

const load = async (users: Json[]): Promise<Json[]> => {
  const answer = await user.internal("POST", "/import", { users });
  if (answer.status !== 200) throw new Error(`${answer.status} ${JSON.stringify(answer.body).slice(0, 500)}`);
  return answer.body.users;
};
const outboxRows = async (): Promise<number> => (await world.rows("SELECT count(*)::int AS n FROM outbox"))[0].n;
const outcomes = (users: Json[]): string[] => [...new Set(users.map((u) => u.outcome))];
const rowOf = async (id: string): Promise<Json> => (await world.rows("SELECT * FROM users WHERE id = $1", [id]))[0];

/** People as a git history names them: few first names, so that handles collide. */
function crowd(n: number, tag: string): Json[] {
  return Array.from({ length: n }, (_, i) => ({
    key: `${tag}-${i}@example.org`,
    email: `${tag}-${i}@example.org`,
    displayName: `Ann Müller ${i % 10}`,
    tags: ["imported"],
  }));
}

test("a thousand people twice: the second time changes nothing and tells nothing", async () => {
  const people = crowd(1000, "twice");
  const first = await load(people);
  expect(outcomes(first)).toEqual(["created"]);
  expect(first.map((u) => u.key)).toEqual(people.map((p) => p.key));
  expect(new Set(first.map((u) => u.id)).size).toBe(1000);
  const told = await outboxRows();
  expect(told).toBe(2000);

  const second = await load(people);
  expect(outcomes(second)).toEqual(["unchanged"]);
  expect(second.map((u) => u.id)).toEqual(first.map((u) => u.id));
  expect(await outboxRows()).toBe(told);
  expect((await user.internal("GET", "/status")).body.store.users).toBe(1000);
});

test("the same keys from six sides at once make each person once", async () => {
  const people = crowd(200, "at-once");
  const shuffled = Array.from({ length: 6 }, (_, i) => [...people.slice(i * 30), ...people.slice(0, i * 30)]);
  const answers = (await Promise.all(shuffled.map(load))).flat();
  const ids = new Map<string, Set<string>>();
  for (const { key, id } of answers) ids.set(key, (ids.get(key) ?? new Set()).add(id));
  expect([...ids.values()].every((set) => set.size === 1)).toBe(true);
  expect(answers.filter((u) => u.outcome === "created")).toHaveLength(200);
  expect(answers.filter((u) => u.outcome === "unchanged")).toHaveLength(1000);
});

test("a taken email is left out and a taken handle gets a suffix, also from sign-ups meanwhile", async () => {
  const ann = await user.signUp();
  const [first, second, third] = await load([
    { key: "k1", email: ann.email.toUpperCase(), handle: ann.handle, displayName: "One" },
    { key: "k2", email: "two@example.org", displayName: "Two" },
    { key: "k3", email: "TWO@example.org", displayName: "Two" },
  ]);
  expect(await rowOf(first.id)).toMatchObject({
    email: null,
    handle: expect.stringMatching(`^${ann.handle}_[0-9a-f]+$`),
  });
  expect(await rowOf(second.id)).toMatchObject({ email: "two@example.org", handle: "two" });
  expect(await rowOf(third.id)).toMatchObject({ email: null, handle: expect.stringMatching(/^two_[0-9a-f]+$/) });
  // It had no valid one: the answer is the same later, though the person was given another handle.
  const again = await load([{ key: "k1", email: ann.email, handle: ann.handle, displayName: "One" }]);
  expect(again[0]).toMatchObject({ id: first.id, outcome: "unchanged" });

  const handles = Array.from({ length: 40 }, (_, i) => `wanted_by_both_${i}`);
  const [imported, ...signedUp] = await Promise.all([
    load(handles.map((handle) => ({ key: handle, handle, displayName: "Both" }))),
    ...handles.slice(0, 20).map((handle) => user.call("POST", "/v1/users", { body: person({ handle }) })),
  ]);
  expect(outcomes(imported)).toEqual(["created"]);
  for (const { status } of signedUp) expect([201, 409, 503]).toContain(status);
});

test("an email that is none is absent, whatever it holds", async () => {
  const emails = ["", "nobody", "a@b@c", "a\0@example.org", `${"x".repeat(900)}@example.org`, null];
  const users = await load(emails.map((email, i) => ({ key: `bad-${i}`, email, displayName: "No Mail" })));
  for (const { id } of users) expect((await rowOf(id)).email).toBeNull();
});

test("keys are any text: NUL, nothing at all, as many characters as are told; each is its own person", async () => {
  const keys = ["", "a", "a\0", "\0a", "\ufffd", "A", " a", "\u00e9", "e\u0301", "𝒳".repeat(320)];
  const first = await load(keys.map((key) => ({ key, displayName: "Key" })));
  expect(new Set(first.map((u) => u.id)).size).toBe(keys.length);
  expect(first.map((u) => u.key)).toEqual(keys);
  const second = await load([...keys].reverse().map((key) => ({ key, displayName: "Key" })));
  expect(outcomes(second)).toEqual(["unchanged"]);
  expect(second.map((u) => u.id).reverse()).toEqual(first.map((u) => u.id));
  const found = (await user.internal("POST", "/import/keys", { keys: [...keys, "unknown"] })).body.ids;
  expect(new Map(found)).toEqual(new Map(first.map((u) => [u.key, u.id])));
});

test("names in any script get a handle", async () => {
  const names = [
    "Łukasz Żółć",
    "李小龍",
    "Мария",
    "O'Brien; DROP TABLE users",
    "  x  ",
    "_",
    "ﬁ ß Æ",
    "a".repeat(80),
    "😀",
  ];
  const users = await load(names.map((displayName) => ({ key: randomUUID(), displayName })));
  for (const { id } of users) expect((await rowOf(id)).handle).toMatch(/^[a-z0-9_]{3,32}$/);
});

test("of one key named twice the last word counts; what is not said stays as it is", async () => {
  const key = randomUUID();
  const email = `${key}@example.org`;
  const users = await load([
    { key, displayName: "Old", bio: "kept", country: "AT", email },
    { key, displayName: "New", tags: ["x"] },
  ]);
  expect(users[0]).toEqual(users[1]);
  expect(await rowOf(users[0].id)).toMatchObject({
    display_name: "New",
    bio: "kept",
    country: "AT",
    tags: ["x"],
    email,
  });

  const [changed] = await load([{ key, displayName: "Newer", country: null }]);
  expect(changed).toMatchObject({ id: users[0].id, revision: 2, outcome: "updated" });
  expect(await rowOf(changed.id)).toMatchObject({ display_name: "Newer", bio: "kept", country: null, email });
  const rows = await world.rows("SELECT payload FROM outbox WHERE key = $1 ORDER BY seq", [changed.id]);
  const events = rows.map((r) => JSON.parse(r.payload));
  expect(events.map((e) => [e.type, e.version])).toEqual([
    ["quartet.user.state.v1", 1],
    ["quartet.user.created.v1", 1],
    ["quartet.user.state.v1", 2],
    ["quartet.user.updated.v1", 2],
  ]);
  expect(events[3].data.fields).toEqual(["displayName", "country"]);
  expect(rows.map((r) => r.payload).join()).not.toContain(email);
});

test("the token of an import is a moment of the database's clock after its commit", async () => {
  const { body } = await user.internal("POST", "/import", { users: [{ key: randomUUID(), displayName: "As Of" }] });
  const [row] = await world.rows("SELECT updated_at FROM users WHERE id = $1", [body.users[0].id]);
  expect(Date.parse(body.token.a.user)).toBeGreaterThanOrEqual(row.updated_at.getTime());
});

test("a person who was erased is made anew, as somebody else", async () => {
  const key = randomUUID();
  const [before] = await load([{ key, displayName: "Gone", email: `${key}@example.org` }]);
  const people = [...crowd(50, `erase-${key}`), { key, displayName: "Gone", email: `${key}@example.org` }];
  const [removed, during] = await Promise.all([
    user.call("DELETE", `/v1/users/${before.id}`, { as: before.id }),
    load(people),
  ]);
  expect(removed.status).toBe(202);
  const [after] = await load([{ key, displayName: "Gone" }]);
  expect(after.id).not.toBe(before.id);
  expect([before.id, after.id]).toContain(during.at(-1).id);
  expect(await rowOf(before.id)).toBeUndefined();
});

test.each([
  ["a name that is missing", [{ key: "x" }], "users.0.displayName"],
  [
    "a bad handle behind a good one",
    [
      { key: "x", displayName: "X" },
      { key: "y", displayName: "Y", handle: "Y!" },
    ],
    "users.1.handle",
  ],
  ["a long key", [{ key: "x".repeat(321), displayName: "X" }], "users.0.key"],
  ["an unknown field", [{ key: "x", displayName: "X", password: "x" }], "users.0.password"],
  ["too many", Array.from({ length: 1001 }, (_, i) => ({ key: `${i}`, displayName: "X" })), "users"],
])("%s is 400, and nobody of that import is there", async (_, users, path) => {
  const before = await outboxRows();
  const answer = await user.internal("POST", "/import", { users });
  expect([answer.status, answer.body.errors?.[0]?.path]).toEqual([400, path]);
  expect(await outboxRows()).toBe(before);
});

test("nobody is nobody", async () => {
  expect(await load([])).toEqual([]);
});
