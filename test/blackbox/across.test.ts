import { describe, expect, it } from "vitest";
import { logIn, signUp, unique } from "../lib/client.ts";
import { client } from "../lib/system.ts";

const operator = { token: client.operatorToken };

describe("across services", () => {
  it("composes a person from what each service knows", async () => {
    const person = await signUp(client, { tags: ["chess"], country: "NL" });
    const { token } = await logIn(client, person);
    const tracked = await client.post("/v1/track", { events: [{ name: "visit", userId: person.id }] }, { token });
    // The token of the event says nothing of the sign-up: Search may not know the person yet, and would say nothing.
    await client.get("/v1/search?q=", { after: person.created });
    const own = await client.get(`/v1/people/${person.id}`, { token, after: tracked.token });
    expect(own.status).toBe(200);
    expect(own.body).toMatchObject({
      id: person.id,
      user: { handle: person.handle, email: person.email },
      presence: { activeSessions: 1 },
      activity: { events: 1, byName: { visit: 1 } },
      similar: expect.any(Array),
      missing: [],
    });
    const stranger = await client.get(`/v1/people/${person.id}`);
    expect(stranger.body).not.toHaveProperty("presence");
    expect(stranger.body).not.toHaveProperty("activity");
    expect(stranger.body.missing).toEqual([]);
    expect((await client.get("/v1/people/01890000-0000-7000-8000-000000000000")).status).toBe(404);
  });

  it("imports idempotently and tells what it did", async () => {
    const key = unique("key\u0000");
    const events = [{ id: unique("ev"), name: unique("imported"), userKey: key, occurredAt: "2020-02-02T02:02:02Z" }];
    const body = { users: [{ key, email: "not an email", displayName: "Imported Person" }], events };
    const first = await client.post("/v1/admin/import", body, operator);
    expect(first.status).toBe(200);
    expect(first.body).toMatchObject({ users: [{ key, outcome: "created" }], accepted: 1 });
    const again = await client.post("/v1/admin/import", body, operator);
    expect(again.body.users).toEqual([{ ...first.body.users[0], outcome: "unchanged" }]);
    const changed = await client.post("/v1/admin/import", { users: [{ key, displayName: "Renamed" }] }, operator);
    expect(changed.body.users[0]).toMatchObject({ id: first.body.users[0].id, outcome: "updated", revision: 2 });
    const counted = await client.get(
      `/v1/analytics/events?name=${events[0]!.name}&from=2020-01-01&to=2021-01-01&interval=month`,
      { after: again.token },
    );
    expect(counted.body.total).toBe(1);
    const found = await client.get(`/v1/search?q=Renamed`, { after: changed.token });
    expect(found.body.hits.map((h: { id: string }) => h.id)).toContain(first.body.users[0].id);
  });

  it("imports events without ids once, however often the same body comes", async () => {
    const name = unique("nameless");
    const event = { name, occurredAt: "2020-02-02T02:02:02Z", properties: { a: 1, b: "x" } };
    const body = { events: [event, { ...event, properties: { b: "x", a: 1 } }, { ...event, properties: {} }] };
    await client.post("/v1/admin/import", body, operator);
    const { body: answer, token } = await client.post("/v1/admin/import", body, operator);
    expect(answer.accepted).toBe(3);
    const path = `/v1/analytics/events?name=${name}&from=2020-01-01&to=2021-01-01&interval=month`;
    expect((await client.get(path, { after: token })).body.total).toBe(3);
  });

  it("shows the operator, and only the operator, how everything is", async () => {
    expect((await client.get("/v1/admin/status")).status).toBe(401);
    const { token } = await logIn(client, await signUp(client));
    expect((await client.get("/v1/admin/status", { token })).status).toBe(403);
    const { status, body } = await client.get("/v1/admin/status", operator);
    expect(status).toBe(200);
    for (const service of ["user", "session", "analytics", "search"])
      expect(body.services[service]).toEqual({ up: true });
    for (const store of ["postgres", "redis", "clickhouse", "elasticsearch", "nats"])
      expect(body.stores[store].up, store).toBe(true);
    expect(body.stores.postgres.users).toBeGreaterThan(0);
    for (const stream of ["USERS", "FACTS", "DEAD"])
      expect(body.streams[stream].messages, stream).toEqual(expect.any(Number));
    for (const projector of ["search", "session", "analytics"]) {
      expect(body.projectors[projector], projector).toMatchObject({
        asOf: expect.any(String),
        lag: expect.any(Number),
        deadLetters: expect.any(Number),
      });
    }
    for (const relay of ["user", "session"]) expect(body.relays[relay].lagSeconds, relay).toEqual(expect.any(Number));
  });

  it("serves its documents and its console, and nothing internal", async () => {
    const spec = await client.get("/openapi.json");
    expect(spec.body.openapi).toMatch(/^3\.1/);
    for (const path of ["/", "/docs"]) {
      const page = await client.get(path);
      expect(page.status).toBe(200);
      expect(page.headers.get("content-security-policy")).toContain("default-src");
    }
    expect((await client.get("/healthz")).status).toBe(200);
    for (const path of [
      "/metrics",
      "/readyz",
      "/livez",
      "/internal/status",
      "/internal/introspect",
      "/v1/../internal/status",
      "/v1/nothing",
    ]) {
      expect((await client.get(path)).status, path).toBe(404);
    }
    const forged = { "Quartet-Identity": "e30.e30.x" };
    expect((await client.get("/v1/admin/status", { headers: forged })).status).toBe(401);
  });
});
