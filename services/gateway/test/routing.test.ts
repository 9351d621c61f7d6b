import { operations } from "@quartet/contracts/openapi";
import { describe, expect, it, vi } from "vitest";
import { routes } from "../src/http/proxy.ts";
import { ann, json, operatorToken } from "./harness.ts";
import { useGateway } from "./setup.ts";

const { up, all, call, raw } = useGateway();

describe("every call to a service", () => {
  it("says for which client and which request it is made, whatever the operation", async () => {
    for (const upstream of all)
      for (const method of ["GET", "POST", "PATCH", "DELETE"])
        upstream.on(`${method} *`, (seen, res) =>
          seen.url === "/internal/introspect"
            ? json(res, 200, { sessionId: "s", userId: ann })
            : json(res, 200, { users: [], ids: [["k", ann]], accepted: 1, audits: [], requested: {} }),
        );
    const called = new Set<string>();
    for (const { method, path, auth, body } of operations) {
      const at = path
        .replace("{id}", path.includes("erasures") ? "e".repeat(43) : ann)
        .replace("{seq}", "1")
        .replace("{store}", "search");
      const store = { store: "search" };
      const imported = {
        users: [{ key: "here", displayName: "Ann" }],
        events: [{ name: "a", userKey: "k" }],
      };
      const sent = path === "/v1/admin/import" ? imported : path === "/v1/admin/rebuilds" ? store : {};
      await call(method.toUpperCase(), at, {
        token: auth === "operator" ? operatorToken : "anns-token",
        headers: { "x-request-id": "mine-2", "quartet-client": "192.0.2.1" },
        ...(body ? { body: sent } : {}),
      });
      for (const upstream of all)
        for (const seen of upstream.seen.splice(0)) {
          called.add(`${upstream.name} ${seen.url.split("?")[0]}`);
          const { "quartet-client": client, "x-request-id": id } = seen.headers;
          expect({ client, id }, `${seen.method} ${seen.url} for ${method} ${path}`).toEqual({
            client: "127.0.0.1",
            id: "mine-2",
          });
        }
    }
    // Those that are made beside passing on.
    for (const name of [
      "session /internal/introspect",
      "user /internal/import",
      "user /internal/import/keys",
      "analytics /v1/track",
      "user /internal/dead",
      "user /internal/dead/1/retry",
      "search /internal/rebuild",
      "user /internal/audit",
      "search /internal/status",
      `search /internal/similar/${ann}`,
    ])
      expect([...called]).toContain(name);
  });
});

describe("passing through", () => {
  it("hands on what belongs to the request, and nothing that would forge or leak", async () => {
    up.user.on(`PATCH /v1/users/${ann}`, (_seen, res) =>
      json(
        res,
        200,
        { ok: "é" },
        {
          etag: '"2"',
          "consistency-token": "abc",
          "quartet-as-of": "x",
          vary: "Authorization",
          "x-powered-by": "y",
          "x-request-id": "theirs",
          "keep-alive": "timeout=1",
          "x-hop": "1",
          connection: "x-hop",
        },
      ),
    );
    const res = await call("PATCH", `/v1/users/${ann}?a=%20b`, {
      token: "anns-token",
      body: { bio: "é" },
      headers: {
        "if-match": '"1"',
        "quartet-identity": "forged",
        "x-forwarded-for": "1.2.3.4",
        cookie: "a=b",
        "x-request-id": "mine-1",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      },
    });
    expect([res.status, res.body]).toEqual([200, { ok: "é" }]);
    expect(
      Object.fromEntries(
        ["etag", "consistency-token", "quartet-as-of", "vary", "x-request-id", "x-powered-by", "x-hop"].map((n) => [
          n,
          res.headers.get(n),
        ]),
      ),
    ).toEqual({
      etag: '"2"',
      "consistency-token": expect.stringMatching(/^abc\.[\w-]{22}$/),
      "quartet-as-of": "x",
      vary: "Authorization",
      "x-request-id": "mine-1",
      "x-powered-by": null,
      "x-hop": null,
    });
    const [seen] = up.user.seen;
    expect(seen).toMatchObject({
      url: `/v1/users/${ann}?a=%20b`,
      body: '{"bio":"é"}',
      identity: { kind: "user", userId: ann, sessionId: "s-anns-token" },
    });
    expect(seen!.headers).toMatchObject({
      "if-match": '"1"',
      "content-type": "application/json",
      "x-request-id": "mine-1",
      traceparent: expect.stringMatching(/^00-0af7651916cd43dd8448eb211c80319c-/),
    });
    for (const name of ["authorization", "cookie", "x-forwarded-for"]) expect(seen!.headers).not.toHaveProperty(name);
    expect(up.session.seen[0]!.identity).toEqual({ kind: "service", name: "gateway" });
  });

  it("a forged identity of an anonymous caller is dropped", async () => {
    up.user.on(`GET /v1/users/${ann}`, (_seen, res) => json(res, 200, {}));
    await call("GET", `/v1/users/${ann}`, { headers: { "quartet-identity": "forged" } });
    expect(up.user.seen[0]!.headers).not.toHaveProperty("quartet-identity");
  });

  it("knows the operator by the token, without asking Session", async () => {
    up.user.on(`DELETE /v1/users/${ann}`, (_seen, res) =>
      json(res, 202, { erasureId: "e" }, { location: "/v1/erasures/e" }),
    );
    const res = await call("DELETE", `/v1/users/${ann}`, { token: operatorToken });
    expect([res.status, res.headers.get("location"), up.user.seen[0]!.identity, up.session.seen.length]).toEqual([
      202,
      "/v1/erasures/e",
      { kind: "operator" },
      0,
    ]);
  });

  it("304, 204, HEAD and a problem pass as they are", async () => {
    up.user.on(`GET /v1/users/${ann}`, (seen, res) =>
      seen.headers["if-none-match"] === '"1"'
        ? res.writeHead(304, { etag: '"1"' }).end()
        : json(res, 200, {}, { etag: '"1"' }),
    );
    up.user.on(`HEAD /v1/users/${ann}`, (_seen, res) =>
      res.writeHead(200, { "content-length": "7", etag: '"1"' }).end(),
    );
    up.session.on("DELETE /v1/sessions/current", (_seen, res) => res.writeHead(204).end());
    up.session.on("POST /v1/sessions", (_seen, res) =>
      json(res, 429, { status: 429 }, { "retry-after": "42", "content-type": "application/problem+json" }),
    );
    expect((await call("GET", `/v1/users/${ann}`, { headers: { "if-none-match": '"1"' } })).status).toBe(304);
    expect((await call("GET", `/v1/users/${ann}`)).headers.get("cache-control")).toBe("private, no-cache");
    expect((await call("HEAD", `/v1/users/${ann}`)).headers.get("content-length")).toBe("7");
    expect((await call("DELETE", "/v1/sessions/current", { token: "anns-token" })).status).toBe(204);
    const many = await call("POST", "/v1/sessions", { body: {} });
    expect([many.status, many.headers.get("retry-after"), many.headers.get("content-type")]).toEqual([
      429,
      "42",
      "application/problem+json",
    ]);
  });
});

describe("who may pass", () => {
  it("401 without a token where one is needed, and for a bad one wherever it matters", async () => {
    for (const [method, path] of [
      ["PATCH", `/v1/users/${ann}`],
      ["GET", "/v1/sessions"],
      ["DELETE", "/v1/sessions/x"],
      ["GET", "/v1/admin/status"],
      ["POST", "/v1/admin/import"],
      ["GET", "/v1/admin/dead"],
    ] as const) {
      const res = await call(method, path);
      expect([path, res.status, res.headers.get("www-authenticate"), res.body?.status]).toEqual([
        path,
        401,
        "Bearer",
        401,
      ]);
    }
    for (const authorization of [
      "Bearer nobodys",
      "Bearer",
      "Basic eDp5",
      `Bearer ${"x".repeat(5000)}`,
      "Bearer a b",
    ]) {
      expect((await call("GET", `/v1/users/${ann}`, { headers: { authorization } })).status).toBe(401);
    }
    expect((await call("GET", "/v1/admin/status", { token: "anns-token" })).status).toBe(403);
  });

  it("a public path does not look at the token, and works with Session down", async () => {
    up.session.frozen = true;
    up.search.on("GET /v1/search", (_seen, res) => json(res, 200, { hits: [] }));
    up.user.on(`GET /v1/users/${ann}`, (_seen, res) => json(res, 200, { id: ann }));
    expect((await call("GET", "/v1/search?q=a", { token: "anns-token" })).status).toBe(200);
    expect((await call("GET", `/v1/users/${ann}`)).status).toBe(200);
    const needs = await call("GET", "/v1/sessions", { token: "anns-token" });
    expect([needs.status, needs.headers.get("retry-after")]).toEqual([503, "1"]);
  });
});

describe("what is not there", () => {
  it("no internal path, no admin port, no traversal is routed", async () => {
    for (const path of [
      "/internal/status",
      "/internal/introspect",
      "/livez",
      "/readyz",
      "/metrics",
      "/v1/users/../../internal/status",
      "/v1",
      "//internal/status",
      "/v1/analytics/secret",
      "/v1/sessions/a/b",
      "/assets/../src/main.ts",
      "/assets/%2e%2e/index.html",
    ]) {
      expect([path, (await raw(`GET ${path} HTTP/1.1`)).status]).toEqual([path, 404]);
    }
    await raw("GET /v1/users/..%2f..%2finternal%2fstatus HTTP/1.1");
    expect(all.flatMap((u) => u.seen.map((s) => s.url))).toEqual(["/v1/users/..%2f..%2finternal%2fstatus"]);
  });

  it("405 says what is possible", async () => {
    expect([
      (await call("PUT", `/v1/users/${ann}`)).status,
      (await call("PUT", `/v1/users/${ann}`)).headers.get("allow"),
    ]).toEqual([405, "DELETE, GET, HEAD, PATCH"]);
    expect((await call("DELETE", "/v1/search")).headers.get("allow")).toBe("GET, HEAD");
    expect((await call("GET", "/v1/users")).headers.get("allow")).toBe("POST");
    expect((await call("POST", "/")).status).toBe(405);
  });

  it("a body that is too large is refused here, by path", async () => {
    up.analytics.on("POST /v1/track", (seen, res) => json(res, 202, { accepted: seen.body.length }));
    expect((await call("POST", "/v1/users", { body: `{"a":"${"x".repeat(65_536)}"}` })).status).toBe(413);
    expect((await call("POST", "/v1/track", { body: `{"a":"${"x".repeat(900_000)}"}` })).status).toBe(202);
    for (const path of ["/v1/track", "/v1/admin/import", "/nowhere", "/v1/search"])
      expect((await call("POST", path, { body: "x".repeat(10 * 1024 * 1024), token: operatorToken })).status).toBe(413);
  });
});

describe("a service that does not answer", () => {
  it("frozen, reset and dead are 503 with Retry-After; the others go on; it is found again", async () => {
    up.search.on("GET /v1/search", (_seen, res) => json(res, 200, {}));
    up.user.frozen = true;
    const frozen = await Promise.all([1, 2, 3, 4, 5, 6].map(() => call("GET", `/v1/users/${ann}`)));
    for (const res of frozen)
      expect([res.status, res.headers.get("retry-after"), res.body.type]).toEqual([
        503,
        "1",
        "urn:quartet:problem:dependency-unavailable",
      ]);
    expect((await call("GET", "/v1/search")).status).toBe(200);
    await up.user.stop();
    expect((await call("GET", `/v1/users/${ann}`)).status).toBe(503);
    up.user.reset();
    up.user.on(`GET /v1/users/${ann}`, (_seen, res) => json(res, 200, {}));
    await up.user.start();
    await vi.waitFor(async () => expect((await call("GET", `/v1/users/${ann}`)).status).toBe(200), {
      timeout: 10_000,
      interval: 50,
    });
  });

  it("an answer that breaks off is a 503, and a read met by a reset is sent again", async () => {
    up.search.on("GET /v1/search/suggest", (_seen, res) => {
      res.writeHead(200, { "content-length": "100" });
      res.write("half");
      setTimeout(() => res.destroy(), 20);
    });
    expect((await call("GET", "/v1/search/suggest")).status).toBe(503);
    let times = 0;
    up.search.on("GET /v1/search", (_seen, res) => (++times === 1 ? res.destroy() : json(res, 200, {})));
    expect((await call("GET", "/v1/search")).status).toBe(200);
    let posts = 0;
    up.user.on("POST /v1/users", (_seen, res) => {
      posts++;
      return res.destroy();
    });
    expect((await call("POST", "/v1/users", { body: {} })).status).toBe(503);
    expect(posts).toBe(1);
  });

  it("a read that waits is given the time", async () => {
    up.search.on("GET /v1/search", (seen, res) =>
      setTimeout(
        () =>
          json(
            res,
            200,
            { prefer: seen.headers.prefer, token: seen.headers["consistency-token"] },
            { "preference-applied": "wait" },
          ),
        2200,
      ),
    );
    const res = await call("GET", "/v1/search", { headers: { prefer: "wait=3", "consistency-token": "e30" } });
    expect([res.status, res.body, res.headers.get("preference-applied")]).toEqual([
      200,
      { prefer: "wait=3", token: "e30" },
      "wait",
    ]);
  });
});

it("pages: strict policy, nothing from elsewhere, every path of the document shown", async () => {
  for (const path of ["/", "/docs"]) {
    const res = await call("GET", path);
    expect([res.status, res.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    expect(res.headers.get("content-security-policy")).toMatch(/^default-src 'none'; script-src 'self'/);
    expect(res.text).not.toMatch(/https?:\/\/|<script(?! type="module" src="\/)|\sstyle=|\son[a-z]+=/);
    for (const [, asset] of res.text.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g))
      expect([asset, (await call("GET", asset!)).status]).toEqual([asset, 200]);
  }
  const spec = await call("GET", "/openapi.json");
  const docs = (await call("GET", "/docs")).text;
  for (const path of Object.keys(spec.body.paths)) expect(docs).toContain(`<code>${path}</code>`);
  const health = await call("GET", "/healthz");
  expect([
    health.status,
    health.body,
    health.headers.get("x-content-type-options"),
    health.headers.get("access-control-allow-origin"),
  ]).toEqual([200, { status: "ok" }, "nosniff", null]);
});

it("every operation of the document is routed, and nothing is routed that it does not have", async () => {
  const paths = (await call("GET", "/openapi.json")).body.paths as Record<string, object>;
  for (const [path, methods] of Object.entries(paths)) {
    const allow = (await call("OPTIONS", path.replace(/\{\w+\}/g, "1"))).headers.get("allow") ?? "";
    const documented = Object.keys(methods).map((method) => method.toUpperCase());
    expect([path, allow.split(", ").filter((method) => method !== "HEAD")]).toEqual([path, documented.sort()]);
  }
  for (const { method, path } of routes) expect(paths[path.replace(/:(\w+)/g, "{$1}")]).toHaveProperty(method);
});
