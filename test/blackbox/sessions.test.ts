import { describe, expect, it } from "vitest";
import { eventually, logIn, signUp, unique } from "../lib/client.ts";
import { client } from "../lib/system.ts";

describe("sessions", () => {
  it("logs in by handle and by email, lists, and ends one, the current and all", async () => {
    const person = await signUp(client);
    const phone = await logIn(client, person, "phone");
    const byEmail = await client.post("/v1/sessions", { login: person.email.toUpperCase(), password: person.password });
    expect(byEmail.status).toBe(201);
    const laptop = byEmail.body.token as string;
    const current = await client.get("/v1/sessions/current", { token: phone.token });
    expect(current.body.user).toEqual({ id: person.id, handle: person.handle, displayName: person.displayName });
    expect(current.body.session).toMatchObject({ userId: person.id, device: "phone" });
    expect(JSON.stringify(current.body)).not.toContain(phone.token);
    const mine = await client.get("/v1/sessions", { token: phone.token });
    expect(mine.body.sessions).toHaveLength(2);

    expect((await client.delete(`/v1/sessions/${byEmail.body.session.id}`, { token: phone.token })).status).toBe(204);
    expect((await client.get("/v1/sessions/current", { token: laptop })).status).toBe(401);
    expect((await client.delete("/v1/sessions/current", { token: phone.token })).status).toBe(204);
    expect((await client.get("/v1/sessions/current", { token: phone.token })).status).toBe(401);

    const [a, b] = [await logIn(client, person), await logIn(client, person)];
    expect((await client.delete("/v1/sessions", { token: a.token })).status).toBe(204);
    for (const { token } of [a, b]) expect((await client.get("/v1/sessions/current", { token })).status).toBe(401);
  });

  it("does not let one person see or end another's session", async () => {
    const [a, b] = [await signUp(client), await signUp(client)];
    const [sa, sb] = [await logIn(client, a), await logIn(client, b)];
    expect((await client.delete(`/v1/sessions/${sa.session.id}`, { token: sb.token })).status).toBe(404);
    expect((await client.get("/v1/sessions/current", { token: sa.token })).status).toBe(200);
  });

  it("answers an unknown login and a wrong password alike", async () => {
    const person = await signUp(client);
    const wrong = await client.post("/v1/sessions", { login: person.handle, password: "not the password" });
    const unknown = await client.post("/v1/sessions", { login: unique("nobody"), password: "not the password" });
    expect([wrong.status, unknown.status]).toEqual([401, 401]);
    const { instance: _a, ...one } = wrong.body;
    const { instance: _b, ...other } = unknown.body;
    expect(one).toEqual(other);
  });

  it("limits failed logins of one login, and nobody else's", async () => {
    const [person, other] = [await signUp(client), await signUp(client)];
    for (let i = 0; i < 10; i++) {
      expect((await client.post("/v1/sessions", { login: person.handle, password: `wrong ${i}` })).status).toBe(401);
    }
    const limited = await client.post("/v1/sessions", { login: person.handle, password: person.password });
    expect(limited.status).toBe(429);
    expect(Number(limited.headers.get("retry-after"))).toBeGreaterThan(0);
    expect((await logIn(client, other)).token).toBeTruthy();
  });

  it("a session that ends while its list waits is refused", async () => {
    const person = await signUp(client);
    const [here, there] = [await logIn(client, person), await logIn(client, person)];
    const change = { password: "another long password", currentPassword: person.password };
    const changed = await client.patch(`/v1/users/${person.id}`, change, { token: here.token });
    const list = (token: string) => client.get("/v1/sessions", { token, after: changed.token });
    const [kept, ended] = await Promise.all([list(here.token), list(there.token)]);
    expect([kept.status, ended.status]).toEqual([200, 401]);
    expect(kept.body.sessions).toHaveLength(1);
  });

  it("a changed password ends the other sessions and keeps this one", async () => {
    const person = await signUp(client);
    const [here, there] = [await logIn(client, person), await logIn(client, person)];
    const changed = await client.patch(
      `/v1/users/${person.id}`,
      { password: "another long password", currentPassword: person.password },
      { token: here.token },
    );
    expect(changed.status).toBe(200);
    await eventually(
      "the other session ends",
      async () => (await client.get("/v1/sessions/current", { token: there.token })).status === 401,
    );
    expect((await client.get("/v1/sessions/current", { token: here.token, after: changed.token })).status).toBe(200);
    expect((await client.post("/v1/sessions", { login: person.handle, password: person.password })).status).toBe(401);
  });

  it("shows a renamed person after a wait for the write", async () => {
    const person = await signUp(client);
    const { token } = await logIn(client, person);
    const changed = await client.patch(`/v1/users/${person.id}`, { displayName: "Somebody Else" }, { token });
    const current = await client.get("/v1/sessions/current", { token, after: changed.token });
    expect(current.body.user.displayName).toBe("Somebody Else");
    expect(current.headers.get("preference-applied")).toMatch(/wait/);
    expect(current.headers.get("quartet-as-of")).toBeTruthy();
  });
});
