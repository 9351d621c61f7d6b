import { describe, expect, it } from "vitest";
import { eventually, logIn, PASSWORD, signUp, unique } from "../lib/client.ts";
import { client } from "../lib/system.ts";

describe("users", () => {
  it("signs up, reads, changes and conditionally reads again", async () => {
    const handle = unique("ada");
    const created = await client.post("/v1/users", {
      email: `${handle}@Example.ORG`,
      password: PASSWORD,
      handle,
      displayName: "Ada Łovelace",
      bio: "First.",
      country: "GB",
      tags: ["math"],
    });
    expect(created.status).toBe(201);
    expect(created.headers.get("location")).toBe(`/v1/users/${created.body.id}`);
    expect(created.headers.get("etag")).toBe('"1"');
    expect(created.token).toBeTruthy();
    expect(created.headers.get("x-request-id")).toBeTruthy();
    expect(created.body).toMatchObject({
      handle,
      displayName: "Ada Łovelace",
      bio: "First.",
      country: "GB",
      tags: ["math"],
      revision: 1,
    });
    expect(created.body).not.toHaveProperty("password");

    const stranger = await client.get(`/v1/users/${created.body.id}`);
    expect(stranger.status).toBe(200);
    expect(stranger.body).not.toHaveProperty("email");
    expect(stranger.headers.get("vary")).toMatch(/authorization/i);
    const same = await client.get(`/v1/users/${created.body.id}`, { headers: { "If-None-Match": '"1"' } });
    expect(same.status).toBe(304);

    const { token } = await logIn(client, { handle, password: PASSWORD });
    const own = await client.get(`/v1/users/${created.body.id}`, { token });
    expect(own.body.email).toBe(`${handle}@example.org`);
    const changed = await client.patch(
      `/v1/users/${created.body.id}`,
      { bio: "Second." },
      { token, headers: { "If-Match": '"1"' } },
    );
    expect(changed.status).toBe(200);
    expect(changed.body).toMatchObject({ bio: "Second.", revision: 2 });
    expect(changed.headers.get("etag")).toBe('"2"');
    const stale = await client.patch(
      `/v1/users/${created.body.id}`,
      { bio: "Third." },
      { token, headers: { "If-Match": '"1"' } },
    );
    expect(stale.status).toBe(412);
  });

  it("names the taken field in a conflict", async () => {
    const a = await signUp(client);
    const both = await client.post("/v1/users", {
      email: a.email,
      password: PASSWORD,
      handle: a.handle,
      displayName: "B",
    });
    expect(both.status).toBe(409);
    expect(both.body.errors.map((e: { path: string }) => e.path).sort()).toEqual(["email", "handle"]);
  });

  it("keeps one of many writers with the same If-Match", async () => {
    const person = await signUp(client);
    const { token } = await logIn(client, person);
    const replies = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        client.patch(`/v1/users/${person.id}`, { bio: `writer ${i}` }, { token, headers: { "If-Match": '"1"' } }),
      ),
    );
    expect(replies.map((r) => r.status).sort()).toEqual([200, 412, 412, 412, 412, 412, 412, 412]);
  });

  it("makes a retried sign-up safe by its Idempotency-Key", async () => {
    const handle = unique("idem");
    const body = { email: `${handle}@example.org`, password: PASSWORD, handle, displayName: "Once" };
    const headers = { "Idempotency-Key": unique("key") };
    const [a, b] = [
      await client.post("/v1/users", body, { headers }),
      await client.post("/v1/users", body, { headers }),
    ];
    expect([a.status, b.status]).toEqual([201, 201]);
    expect(b.body).toEqual(a.body);
    const other = await client.post("/v1/users", { ...body, displayName: "Twice" }, { headers });
    expect(other.status).toBe(422);
  });

  it("lets only the person (or the operator) change and erase", async () => {
    const [a, b] = [await signUp(client), await signUp(client)];
    const { token } = await logIn(client, b);
    expect((await client.patch(`/v1/users/${a.id}`, { bio: "x" })).status).toBe(401);
    expect((await client.patch(`/v1/users/${a.id}`, { bio: "x" }, { token: "nonsense" })).status).toBe(401);
    expect((await client.patch(`/v1/users/${a.id}`, { bio: "x" }, { token })).status).toBe(403);
    expect((await client.delete(`/v1/users/${a.id}`, { token })).status).toBe(403);
    const byOperator = await client.patch(`/v1/users/${a.id}`, { bio: "x" }, { token: client.operatorToken });
    expect(byOperator.status).toBe(200);
  });

  it("erases: gone at once, receipts from every store, the handle free again", async () => {
    const person = await signUp(client, { bio: "zanzibar quokka enthusiast" });
    const { token } = await logIn(client, person);
    await client.post(
      "/v1/track",
      { events: [{ name: "visit", userId: person.id, properties: { page: "quokka" } }] },
      { token },
    );
    const accepted = await client.delete(`/v1/users/${person.id}`, { token });
    expect(accepted.status).toBe(202);
    expect(accepted.headers.get("location")).toBe(`/v1/erasures/${accepted.body.erasureId}`);
    expect((await client.get(`/v1/users/${person.id}`)).status).toBe(404);
    const receipts = await eventually("the erasure completes", async () => {
      const { body } = await client.get(`/v1/erasures/${accepted.body.erasureId}`);
      return body.state === "complete" && body;
    });
    for (const store of ["user", "session", "analytics", "search"]) {
      expect(receipts.stores[store]).toMatchObject({ state: "complete", confirmedAt: expect.any(String) });
    }
    expect(JSON.stringify(receipts)).not.toContain(person.handle);
    expect((await client.get(`/v1/search?q=${person.handle}`)).body.total).toBe(0);
    expect((await client.get("/v1/sessions/current", { token })).status).toBe(401);
    expect((await client.get(`/v1/people/${person.id}`)).status).toBe(404);
    const again = await client.post("/v1/users", {
      email: person.email,
      password: PASSWORD,
      handle: person.handle,
      displayName: "New",
    });
    expect(again.status).toBe(201);
  });
});
