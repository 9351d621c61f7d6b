import { describe, expect, it } from "vitest";
import { logIn, signUp, unique } from "../lib/client.ts";
import { client } from "../lib/system.ts";

const name = () => unique("e").toLowerCase();
const ask = (path: string, query: Record<string, string>, after?: string | null) =>
  client.get(`/v1/analytics/${path}?${new URLSearchParams(query)}`, { after });

describe("analytics", () => {
  it("counts a tracked id once: the first accepted wins", async () => {
    const event = name();
    const track = (occurredAt: string) =>
      client.post(
        "/v1/track",
        { events: [{ id: `${event}-1`, name: event, occurredAt }] },
        { token: client.operatorToken },
      );
    const a = await track("2025-03-01T10:00:00Z");
    expect(a.status).toBe(202);
    expect(a.body).toEqual({ accepted: 1 });
    const b = await track("2025-03-02T10:00:00Z");
    const { body } = await ask(
      "events",
      { name: event, from: "2025-03-01", to: "2025-03-03", interval: "day" },
      b.token ?? a.token,
    );
    expect(body).toEqual({
      series: [
        { at: "2025-03-01T00:00:00.000Z", count: 1 },
        { at: "2025-03-02T00:00:00.000Z", count: 0 },
      ],
      total: 1,
    });
  });

  it("an id of nobody counts once with what it says: a stranger swallows nothing", async () => {
    const event = name();
    const track = (properties: object) =>
      client.post("/v1/track", {
        events: [{ id: "order-1", name: event, occurredAt: "2025-03-01T10:00:00Z", properties }],
      });
    const said = [await track({ total: 1 }), await track({ total: 2 }), await track({ total: 1 })];
    expect(said.map(({ status }) => status)).toEqual([202, 202, 202]);
    // The third is the first once more, and its token asks for no more than that one's did.
    const { body } = await ask("events", { name: event, from: "2025-03-01", to: "2025-03-02" }, said[1]!.token);
    expect(body.total).toBe(2);
  });

  it("sees its own tracked events with the token, a thousand at a time", async () => {
    const event = name();
    const events = Array.from({ length: 1000 }, (_, i) => ({
      id: `${event}-${i}`,
      name: event,
      occurredAt: "1999-12-31T23:59:59.999Z",
    }));
    const sent = await client.post("/v1/track", { events });
    const { body, headers } = await ask(
      "events",
      { name: event, from: "1999-01-01", to: "2000-01-01", interval: "month" },
      sent.token,
    );
    expect(headers.get("preference-applied")).toMatch(/wait/);
    expect(body.total).toBe(1000);
    expect(body.series).toHaveLength(12);
    expect(body.series[11]).toEqual({ at: "1999-12-01T00:00:00.000Z", count: 1000 });
  });

  it("counts sign-ups, sessions and active people", async () => {
    const hour = new Date();
    hour.setUTCMinutes(0, 0, 0);
    const range = { from: hour.toISOString(), to: new Date(hour.getTime() + 2 * 3600_000).toISOString() };
    const before = await ask("signups", { ...range, interval: "hour" });
    const person = await signUp(client);
    const after = await ask("signups", { ...range, interval: "hour" }, person.created);
    expect(after.body.total).toBe(before.body.total + 1);
    const sessionsBefore = (await ask("sessions", range)).body;
    const { token, consistency } = await logIn(client, person);
    const started = await ask("sessions", range, consistency);
    expect(started.body.started).toBeGreaterThan(sessionsBefore.started);
    const out = await client.delete("/v1/sessions/current", { token });
    const ended = await ask("sessions", range, out.token);
    expect(ended.body.ended.logout).toBeGreaterThan(sessionsBefore.ended.logout);
    const day = hour.toISOString().slice(0, 10);
    const tomorrow = new Date(Date.parse(day) + 86_400_000).toISOString().slice(0, 10);
    const active = await ask("active-users", { from: day, to: tomorrow, interval: "day" });
    expect(active.body.series[0].users).toBeGreaterThan(0);
  });

  it("answers funnel, retention and top about tracked events of known people", async () => {
    const [a, b] = [await signUp(client), await signUp(client)];
    const [s1, s2] = [name(), name()];
    const at = (minute: number) => new Date(Date.UTC(2024, 0, 1, 0, minute)).toISOString();
    const sent = await client.post(
      "/v1/track",
      {
        events: [
          { id: `${s1}a1`, name: s1, occurredAt: at(0), userId: a.id, properties: { plan: "pro" } },
          { id: `${s1}a2`, name: s2, occurredAt: at(5), userId: a.id },
          { id: `${s1}b1`, name: s1, occurredAt: at(1), userId: b.id, properties: { plan: "pro" } },
          { id: `${s1}x`, name: s1, occurredAt: at(2), properties: { plan: "free" } },
        ],
      },
      { token: client.operatorToken },
    );
    expect(sent.status).toBe(202);
    const range = { from: "2024-01-01", to: "2024-01-08" };
    const funnel = await ask("funnel", { steps: `${s1},${s2}`, within: "1h", ...range }, sent.token);
    expect(funnel.body.steps).toEqual([
      { name: s1, users: 2 },
      { name: s2, users: 1 },
    ]);
    const what = new URLSearchParams({ name: s1, property: "plan", ...range });
    const top = await client.get(`/v1/analytics/top?${what}`, { token: client.operatorToken });
    expect((await client.get(`/v1/analytics/top?${what}`)).status).toBe(401);
    expect(top.body.values).toEqual([
      { value: "pro", count: 2 },
      { value: "free", count: 1 },
    ]);
    const retention = await ask("retention", { ...range, cohort: "week", periods: "2" });
    expect(retention.body.cohorts[0]).toMatchObject({ at: "2024-01-01T00:00:00.000Z", active: expect.any(Array) });
  });

  it("lets nobody track in another's name", async () => {
    const [a, b] = [await signUp(client), await signUp(client)];
    const { token } = await logIn(client, b);
    const events = [{ name: name(), userId: a.id }];
    expect((await client.post("/v1/track", { events })).status).toBe(401);
    expect((await client.post("/v1/track", { events }, { token })).status).toBe(403);
  });
});
