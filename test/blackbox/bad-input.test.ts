import { beforeAll, describe, expect, it } from "vitest";
import { logIn, PASSWORD, type Person, signUp, unique } from "../lib/client.ts";
import { client } from "../lib/system.ts";

let person: Person;
let token: string;
beforeAll(async () => {
  person = await signUp(client);
  token = (await logIn(client, person)).token;
});

const good = () => {
  const handle = unique("bad");
  return { email: `${handle}@example.org`, password: PASSWORD, handle, displayName: "Good" };
};
const operator = () => client.operatorToken;
const injections = [
  "'; DROP TABLE users; --",
  '" OR 1=1 --',
  "*:*",
  "handle:[* TO *]",
  "/.*/",
  "(((",
  "\\",
  "{{7*7}}",
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is meant to be plain text
  "${jndi:ldap://x}",
  "a' UNION SELECT 1--",
  "\u202e",
  "%00",
  "🤖".repeat(30),
];

describe("bad input is a 4xx that names the field", () => {
  it.each([
    ["email", { email: "nope" }],
    ["email", { email: 7 }],
    ["password", { password: "short" }],
    ["handle", { handle: "No Good" }],
    ["displayName", { displayName: "" }],
    ["displayName", { displayName: "x".repeat(81) }],
    ["displayName", { displayName: "a\u0007" }],
    ["displayName", { displayName: "\u200b" }],
    ["displayName", { displayName: "\u3164" }],
    ["displayName", { displayName: "a\u202eb" }],
    ["bio", { bio: "x".repeat(501) }],
    ["bio", { bio: null }],
    ["country", { country: "ZZ" }],
    ["tags", { tags: "x" }],
    ["tags.0", { tags: ["Bad Tag"] }],
    ["role", { role: "admin" }],
    ["__proto__x", { __proto__x: 1 }],
  ])("sign-up: %s", async (path, change) => {
    const reply = await client.post("/v1/users", { ...good(), ...change });
    expect(reply.status).toBe(400);
    expect(reply.headers.get("content-type")).toContain("application/problem+json");
    expect(reply.body).toMatchObject({
      type: expect.any(String),
      title: expect.any(String),
      status: 400,
      instance: expect.any(String),
    });
    expect(reply.body.errors.map((e: { path: string }) => e.path)).toContain(path);
  });

  it.each([
    ["/v1/analytics/signups?from=yesterday", "from"],
    ["/v1/analytics/signups?from=9999-01-01&to=99999-01-01", "to"],
    ["/v1/analytics/signups?from=2025-02-30", "from"],
    ["/v1/analytics/signups?from=2025-01-02&to=2025-01-01", "to"],
    ["/v1/analytics/signups?from=1970-01-01&to=2100-01-01&interval=hour", "interval"],
    ["/v1/analytics/signups?interval=minute", "interval"],
    ["/v1/analytics/active-users?interval=hour", "interval"],
    ["/v1/analytics/events?from=2025-01-01", "name"],
    ["/v1/analytics/events?name=Bad%20Name", "name"],
    ["/v1/analytics/funnel?steps=a", "steps"],
    ["/v1/analytics/funnel?steps=a,b&within=forever", "within"],
    ["/v1/analytics/top?name=a&property=Bad-Key", "property"],
    ["/v1/analytics/retention?periods=0", "periods"],
    ["/v1/search?limit=0", "limit"],
    ["/v1/search?limit=101", "limit"],
    ["/v1/search?limit=ten", "limit"],
    ["/v1/search?cursor=garbage", "cursor"],
    ["/v1/search?country=Germany", "country"],
    [`/v1/search?q=${"x".repeat(2000)}`, "q"],
    ["/v1/users/not-a-uuid", "id"],
    ["/v1/people/not-a-uuid", "id"],
  ])("GET %s", async (path, field) => {
    const reply = await client.get(path, path.includes("/top?") ? { token: client.operatorToken } : {});
    expect(reply.status).toBe(400);
    expect(reply.body.errors.map((e: { path: string }) => e.path)).toContain(field);
  });

  it("names both fields that do not go together", async () => {
    for (const [path, fields] of [
      ["/v1/analytics/signups?from=2025-01-02&to=2025-01-01", ["from", "to"]],
      ["/v1/analytics/signups?from=1970-01-01&to=2100-01-01&interval=hour", ["interval", "from", "to"]],
      ["/v1/analytics/retention?from=1970-01-01&to=2100-01-01&cohort=day", ["cohort", "from", "to"]],
    ] as const) {
      const reply = await client.get(path);
      expect([reply.status, reply.body.errors.map((e: { path: string }) => e.path)], path).toEqual([400, fields]);
    }
    const body = { events: [{ name: "a", userId: person.id, userKey: "k" }] };
    const both = await client.post("/v1/admin/import", body, { token: operator() });
    expect([both.status, both.body.errors.map((e: { path: string }) => e.path)]).toEqual([
      400,
      ["events.0.userId", "events.0.userKey"],
    ]);
  });

  it("tells the operator whose token has no sessions what to add", async () => {
    const reply = await client.get("/v1/sessions", { token: operator() });
    expect([reply.status, reply.body.errors[0].path]).toEqual([403, "userId"]);
    expect((await client.get(`/v1/sessions?userId=${person.id}`, { token: operator() })).status).toBe(200);
  });

  it.each([
    ["events", { events: [] }],
    ["events", { events: Array.from({ length: 1001 }, () => ({ name: "a" })) }],
    ["events.0.name", { events: [{ name: "UPPER" }] }],
    ["events.0.id", { events: [{ name: "a", id: "x y" }] }],
    ["events.0.occurredAt", { events: [{ name: "a", occurredAt: "2100-01-01T00:00:00Z" }] }],
    ["events.0.occurredAt", { events: [{ name: "a", occurredAt: "soon" }] }],
    ["events.0.userId", { events: [{ name: "a", userId: "me" }] }],
    ["events.0.what", { events: [{ name: "a", what: 1 }] }],
  ])("track: %s", async (path, body) => {
    const reply = await client.post("/v1/track", body, { token });
    expect(reply.status).toBe(400);
    expect(reply.body.errors.map((e: { path: string }) => e.path).join(" ")).toContain(path);
  });

  const routes: [string, string][] = [
    ["POST", "/v1/users"],
    ["POST", "/v1/sessions"],
    ["POST", "/v1/track"],
    ["POST", "/v1/admin/import"],
  ];
  it.each(routes)("%s %s: malformed, mistyped, oversized and mislabelled bodies", async (method, path) => {
    const auth = { token: operator() };
    const json = { "Content-Type": "application/json" };
    const send = (raw: string | Uint8Array, headers: Record<string, string> = json) =>
      client.call(method, path, { ...auth, raw, headers });
    expect((await send("{")).status).toBe(400);
    expect((await send("")).status).toBe(400);
    expect((await send("[]")).status).toBe(400);
    expect((await send("null")).status).toBe(400);
    expect((await send('"text"')).status).toBe(400);
    expect((await send(new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]))).status).toBe(400);
    expect((await send("{}", { "Content-Type": "text/plain" })).status).toBe(415);
    expect((await send("a=b", { "Content-Type": "application/x-www-form-urlencoded" })).status).toBe(415);
    const big = await send(`{"x":"${"x".repeat(10 * 1024 * 1024)}"}`).catch((e: Error) => e);
    // A server may answer and close while the body is still coming: the client then sees the answer or the closed connection.
    if (!(big instanceof Error)) expect(big.status).toBe(413);
    expect((await client.get("/healthz")).status).toBe(200);
  });

  it.each(injections)("takes %j as plain text everywhere", async (text) => {
    const q = encodeURIComponent(text);
    for (const path of [`/v1/search?q=${q}`, `/v1/search/suggest?q=${q}`])
      expect([200, 400], path).toContain((await client.get(path)).status);
    for (const path of [
      `/v1/search?tag=${q}`,
      `/v1/analytics/events?name=${q}`,
      `/v1/analytics/top?name=a&property=${q}`,
      `/v1/users/${q}`,
    ]) {
      const { status } = await client.get(path);
      expect(status, path).toBeGreaterThanOrEqual(400);
      expect(status, path).toBeLessThan(500);
    }
    expect((await client.post("/v1/sessions", { login: text, password: text })).status).toBeLessThan(500);
    const changed = await client.patch(`/v1/users/${person.id}`, { displayName: text.slice(0, 40) }, { token });
    if (changed.status === 200) expect(changed.body.displayName).toBe(text.slice(0, 40));
    else expect(changed.status).toBe(400);
  });

  it("refuses a property that a JSON parser's record would swallow", async () => {
    const raw = '{"events":[{"name":"a","properties":{"__proto__":1,"k":1}}]}';
    const reply = await client.call("POST", "/v1/track", { raw, headers: { "content-type": "application/json" } });
    expect([reply.status, reply.body.errors[0].path]).toEqual([400, "events.0.properties.__proto__"]);
  });

  it("refuses malformed headers by name", async () => {
    const badToken = await client.get("/v1/search", { headers: { "Consistency-Token": "%%%", Prefer: "wait=1" } });
    expect(badToken.status).toBe(400);
    expect(JSON.stringify(badToken.body.errors)).toMatch(/consistency-token/i);
  });

  it("knows which methods a path has", async () => {
    expect((await client.call("PUT", `/v1/users/${person.id}`, { body: {} })).status).toBe(405);
    expect((await client.call("DELETE", "/v1/search")).status).toBe(405);
  });
});
