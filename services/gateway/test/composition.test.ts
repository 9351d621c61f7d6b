import { decodeToken, encodeToken } from "@quartet/contracts";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { ann, bob, json, operatorToken } from "./harness.ts";
import { useGateway } from "./setup.ts";

const { up, call, log } = useGateway();

describe("GET /v1/people/:id", () => {
  const path = `/v1/people/${ann}`;
  beforeEach(() => {
    up.user.on(`GET /v1/users/${ann}`, (seen, res) =>
      json(res, 200, { id: ann, handle: "ann", ...(seen.identity ? { email: "a@example.org" } : {}) }),
    );
    up.session.on(`GET /internal/presence/${ann}`, (_seen, res) =>
      json(res, 200, { activeSessions: 1, lastSeenAt: null }, { "quartet-as-of": "2026-01-01T00:00:02.000Z" }),
    );
    up.analytics.on(`GET /internal/activity/${ann}`, (_seen, res) =>
      json(res, 200, { events: 3, lastEventAt: null, byName: {} }, { "quartet-as-of": "2026-01-01T00:00:01.000Z" }),
    );
    up.search.on(`GET /internal/similar/${ann}`, (_seen, res) =>
      json(res, 200, { similar: [{ id: bob }] }, { "quartet-as-of": "2026-01-01T00:00:03.000Z" }),
    );
  });

  it("the person and the operator see all of it, as of its oldest part", async () => {
    for (const token of ["anns-token", operatorToken]) {
      const res = await call("GET", path, { token });
      expect([res.status, res.headers.get("quartet-as-of"), res.headers.get("vary")]).toEqual([
        200,
        "2026-01-01T00:00:01.000Z",
        "Authorization",
      ]);
      expect(res.body).toEqual({
        id: ann,
        user: { id: ann, handle: "ann", email: "a@example.org" },
        presence: { activeSessions: 1, lastSeenAt: null },
        activity: { events: 3, lastEventAt: null, byName: {} },
        similar: [{ id: bob }],
        missing: [],
      });
    }
    expect(up.session.seen.find((s) => s.method === "GET")!.identity).toEqual({ kind: "service", name: "gateway" });
  });

  it("others see neither presence nor activity, and that is not missing", async () => {
    for (const token of [undefined, "bobs-token"]) {
      const res = await call("GET", path, token ? { token } : {});
      expect(Object.keys(res.body)).toEqual(["id", "user", "similar", "missing"]);
      expect([res.body.missing, res.headers.get("quartet-as-of")]).toEqual([[], "2026-01-01T00:00:03.000Z"]);
    }
    expect([up.session.seen.filter((s) => s.method === "GET"), up.analytics.seen]).toEqual([[], []]);
  });

  it("of whom Search does not know yet it says as of when that is true, and that it is stale", async () => {
    up.search.on(`GET /internal/similar/${ann}`, (_seen, res) =>
      json(res, 404, {}, { "quartet-as-of": "2026-01-01T00:00:00.500Z", "quartet-freshness": "stale" }),
    );
    const res = await call("GET", path, { headers: { "consistency-token": encodeToken({ u: [[ann, 1]] }) } });
    expect([res.status, res.body.missing, res.body.similar]).toEqual([200, [], undefined]);
    expect([res.headers.get("quartet-as-of"), res.headers.get("quartet-freshness")]).toEqual([
      "2026-01-01T00:00:00.500Z",
      "stale",
    ]);
  });

  it("names who did not answer, and gives the rest", async () => {
    up.user.frozen = true;
    up.search.on(`GET /internal/similar/${ann}`, () => {});
    up.search.reset();
    up.search.on(`GET /internal/similar/${ann}`, (_seen, res) => json(res, 503, {}));
    const res = await call("GET", path, {
      token: "anns-token",
      headers: { "consistency-token": "e30", prefer: "wait=1" },
    });
    expect([res.status, res.body.missing, res.body.presence?.activeSessions, res.body.activity?.events]).toEqual([
      200,
      ["user", "search"],
      1,
      3,
    ]);
    expect(res.headers.get("quartet-freshness")).toBe("stale");
  });

  it("with Session down a token proves nothing: what anybody sees, and session is missing", async () => {
    up.session.frozen = true;
    const res = await call("GET", path, { token: "anns-token" });
    expect([res.status, res.body.missing, res.body.user.email, res.body.activity]).toEqual([
      200,
      ["session"],
      undefined,
      undefined,
    ]);
    expect((await call("GET", path)).body.missing).toEqual([]);
  });

  it("404 only when User says so, 400 for no id at all, 401 for a bad token", async () => {
    expect((await call("GET", `/v1/people/${bob}`)).status).toBe(404);
    expect((await call("GET", "/v1/people/x")).body.errors).toEqual([{ path: "id", message: "must be a UUID" }]);
    await vi.waitFor(async () => expect((await call("GET", path, { token: "nobodys" })).status).toBe(401), {
      timeout: 10_000,
    }); // the breaker of the test before
  });

  it("passes the token and the wait to each derived part, and says that it was applied", async () => {
    for (const [service, key] of [
      ["session", `GET /internal/presence/${ann}`],
      ["analytics", `GET /internal/activity/${ann}`],
      ["search", `GET /internal/similar/${ann}`],
    ] as const) {
      up[service].on(key, (seen, res) =>
        json(
          res,
          200,
          { similar: [] },
          seen.headers["consistency-token"] === "e30" && seen.headers.prefer === "wait=2"
            ? { "preference-applied": "wait" }
            : { "quartet-freshness": "stale" },
        ),
      );
    }
    const res = await call("GET", path, {
      token: "anns-token",
      headers: { "consistency-token": "e30", prefer: "wait=2" },
    });
    expect([res.headers.get("preference-applied"), res.headers.get("quartet-freshness")]).toEqual(["wait", null]);
    expect((await call("GET", path, { headers: { "consistency-token": "?" } })).body.errors[0].path).toBe(
      "Consistency-Token",
    );
  });
});

it("GET /v1/admin/status folds what the services say; one that is frozen is down", async () => {
  up.search.frozen = true;
  up.user.on("GET /internal/status", (_seen, res) =>
    json(res, 200, {
      store: { up: true, users: 2 },
      nats: { up: true },
      streams: { USERS: { messages: 2 } },
      relays: { user: { lagBytes: 0, lagSeconds: 0 } },
      audit: { drift: 0, checkedAt: "2026-01-01T00:00:01.000Z" },
    }),
  );
  up.session.on("GET /internal/status", (_seen, res) =>
    json(res, 200, {
      store: { up: false },
      projectors: { session: { asOf: null, stalenessSeconds: null, lag: 1, deadLetters: 0 } },
    }),
  );
  up.analytics.on("GET /internal/status", (_seen, res) =>
    json(res, 200, {
      store: { up: true, facts: 9 },
      projectors: { analytics: { asOf: null, stalenessSeconds: 0.1, lag: 0, deadLetters: 0 } },
    }),
  );
  const res = await call("GET", "/v1/admin/status", { token: operatorToken });
  expect(res.body).toEqual({
    services: {
      gateway: { up: true },
      user: { up: true },
      session: { up: true },
      analytics: { up: true },
      search: { up: false },
    },
    stores: {
      postgres: { up: true, users: 2 },
      redis: { up: false },
      clickhouse: { up: true, facts: 9 },
      elasticsearch: { up: false },
      nats: { up: true },
    },
    streams: { USERS: { messages: 2 } },
    projectors: {
      session: { asOf: null, stalenessSeconds: null, lag: 1, deadLetters: 0 },
      analytics: { asOf: null, stalenessSeconds: 0.1, lag: 0, deadLetters: 0 },
    },
    relays: { user: { lagBytes: 0, lagSeconds: 0 } },
    audit: { drift: 0, checkedAt: "2026-01-01T00:00:01.000Z" },
  });
});

describe("POST /v1/admin/import", () => {
  const send = (body: unknown) => call("POST", "/v1/admin/import", { token: operatorToken, body });

  it("people first, then their events in chunks, as the operator; one token for all of it", async () => {
    up.user.on("POST /internal/import", (seen, res) =>
      json(res, 200, {
        users: JSON.parse(seen.body).users.map((u: { key: string }) => ({
          key: u.key,
          id: ann,
          revision: 1,
          outcome: "created",
        })),
        token: { a: { user: "2026-01-01T00:00:01.000Z" } },
      }),
    );
    up.user.on("POST /internal/import/keys", (seen, res) =>
      json(res, 200, { ids: JSON.parse(seen.body).keys.includes("old") ? [["old", bob]] : [] }),
    );
    let seq = 0;
    up.analytics.on("POST /v1/track", (seen, res) =>
      json(
        res,
        202,
        { accepted: JSON.parse(seen.body).events.length },
        { "consistency-token": encodeToken({ t: { seq: ++seq, stream: "s" } }) },
      ),
    );
    const events = Array.from({ length: 2500 }, (_, i) => ({
      id: `e${i}`,
      name: "commit",
      ...(i === 0 ? { userKey: "new" } : i === 1 ? { userKey: "old" } : {}),
    }));
    const res = await send({ users: [{ key: "new", displayName: "New", email: "not an address" }], events });
    expect([res.status, res.body]).toEqual([
      200,
      { users: [{ key: "new", id: ann, revision: 1, outcome: "created" }], accepted: 2500 },
    ]);
    const [says] = res.headers.get("consistency-token")!.split(".");
    expect(decodeToken(says!)).toEqual({
      t: { seq: 3, stream: "s" },
      a: { user: "2026-01-01T00:00:01.000Z" },
    });
    const chunks = up.analytics.seen.map((s) => JSON.parse(s.body).events);
    expect(chunks.map((c) => c.length)).toEqual([1000, 1000, 500]);
    expect(chunks[0].slice(0, 2)).toEqual([
      { id: "e0", name: "commit", userId: ann },
      { id: "e1", name: "commit", userId: bob },
    ]);
    expect(up.analytics.seen[0]!.identity).toEqual({ kind: "operator" });
    expect(up.user.seen.map((s) => s.identity)).toEqual([
      { kind: "service", name: "gateway" },
      { kind: "service", name: "gateway" },
    ]);

    const unknown = await send({
      events: [{ name: "a" }, { name: "a", userKey: "never" }, { name: "a", userKey: "old", userId: bob }],
    });
    expect([unknown.status, unknown.body.errors.map((e: { path: string }) => e.path)]).toEqual([
      400,
      ["events.2.userId", "events.2.userKey"],
    ]);
    expect((await send({ events: [{ name: "a" }, { name: "a", userKey: "never" }] })).body.errors[0].path).toBe(
      "events.1.userKey",
    );
  });

  it("large events go in pieces that Analytics takes", async () => {
    up.analytics.on("POST /v1/track", (seen, res) =>
      seen.body.length > 1024 * 1024
        ? json(res, 413, {})
        : json(res, 202, { accepted: JSON.parse(seen.body).events.length }),
    );
    const properties = Object.fromEntries(Array.from({ length: 32 }, (_, i) => [`p${i}`, "é".repeat(250)]));
    const res = await send({ events: Array.from({ length: 150 }, () => ({ name: "large", properties })) });
    expect([res.status, res.body.accepted, up.analytics.seen.length > 1]).toEqual([200, 150, true]);
  });

  it("bad input is named by its place, a dead part is 503, and it is the operator's alone", async () => {
    const bad = await send({ users: [{ key: "k", displayName: "" }], events: [{ name: "Bad" }], more: 1 });
    expect([bad.status, [...new Set(bad.body.errors.map((e: { path: string }) => e.path))].sort()]).toEqual([
      400,
      ["events.0.name", "more", "users.0.displayName"].sort(),
    ]);
    up.analytics.on("POST /v1/track", (seen, res) =>
      up.analytics.seen.length === 1
        ? json(res, 202, { accepted: JSON.parse(seen.body).events.length })
        : json(res, 400, { status: 400, detail: "x", errors: [{ path: "events.3.name", message: "bad" }] }),
    );
    expect((await send({ events: Array.from({ length: 1100 }, () => ({ name: "a" })) })).body.errors).toEqual([
      { path: "events.1003.name", message: "bad" },
    ]);
    up.user.on("POST /internal/import", (_seen, res) =>
      json(res, 503, { detail: "postgres does not answer" }, { "retry-after": "2" }),
    );
    const down = await send({ users: [{ key: "k", displayName: "K" }] });
    expect([down.status, down.headers.get("retry-after")]).toEqual([503, "2"]);
    expect((await call("POST", "/v1/admin/import", { token: "anns-token", body: {} })).status).toBe(403);
  });
});

it("/v1/admin/dead goes to User as a service", async () => {
  up.user.on("GET /internal/dead", (seen, res) => json(res, 200, { url: seen.url, who: seen.identity }));
  up.user.on("POST /internal/dead/7/retry", (_seen, res) => res.writeHead(202).end());
  up.user.on("DELETE /internal/dead/7", (_seen, res) => res.writeHead(204).end());
  expect((await call("GET", "/v1/admin/dead?limit=3&after=1", { token: operatorToken })).body).toEqual({
    url: "/internal/dead?limit=3&after=1",
    who: { kind: "service", name: "gateway" },
  });
  expect((await call("POST", "/v1/admin/dead/7/retry", { token: operatorToken })).status).toBe(202);
  expect((await call("DELETE", "/v1/admin/dead/7", { token: operatorToken })).status).toBe(204);
  expect((await call("GET", "/v1/admin/dead/..%2fstatus", { token: operatorToken })).status).toBe(400);
});

it("no token and no email is ever logged", () => {
  expect(log()).toMatch('"request"');
  for (const secret of ["anns-token", operatorToken, "a@example.org", "not an address"])
    expect(log()).not.toContain(secret);
});
