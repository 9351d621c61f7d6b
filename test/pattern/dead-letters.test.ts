import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { eventually, signUp, unique } from "../lib/client.ts";
import { connectAsAdmin } from "../lib/nats.ts";
import { client, home } from "../lib/system.ts";

const root = new URL("../..", import.meta.url).pathname;
const env = { ...process.env, QUARTET_URL: client.url, QUARTET_OPERATOR_TOKEN: client.operatorToken };

/** `npm run dead -- ...`, as an operator types it. */
async function dead(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, ["packages/cli/src/main.ts", "dead", ...args], {
    cwd: root,
    env,
  });
  return stdout;
}

async function publish(subject: string, payload: string): Promise<void> {
  const nc = await connectAsAdmin();
  await nc.jetstream().publish(subject, payload);
  await nc.close();
}

describe.skipIf(!home)("a message that nobody can apply", () => {
  it("is parked with its reason, holds nothing up, and can be shown, retried and dropped", async () => {
    const person = await signUp(client);
    const garbage = `{"type":"${unique("quartet.nonsense")}.v1"}`;
    await publish(`users.${person.id}`, garbage);
    await publish("facts.track.garbage.-", "\u0000 not even JSON");
    await publish("facts.track.later.-", JSON.stringify({ specversion: "1.0", type: "quartet.track.v7" }));

    // The garbage took the person's place on the compacted stream; what is written next is found all the same.
    const next = await client.patch(
      `/v1/users/${person.id}`,
      { displayName: "Still Here" },
      { token: client.operatorToken },
    );
    const found = await client.get(`/v1/search?q=${person.handle}`, { after: next.token });
    expect(found.body.hits[0]).toMatchObject({ id: person.id, displayName: "Still Here" });
    const tracked = await client.post("/v1/track", { events: [{ name: "after_garbage" }] });
    const counted = await client.get("/v1/analytics/events?name=after_garbage", { after: tracked.token });
    expect(counted.headers.get("quartet-freshness")).toBeNull();

    const letters = await eventually("four letters", async () => {
      const { body } = await client.get("/v1/admin/dead", { token: client.operatorToken });
      return body.deadLetters.length >= 4 && body.deadLetters;
    });
    const ours = letters.filter((d: { payload: string }) => d.payload === garbage);
    expect(ours.map((d: { consumer: string }) => d.consumer).sort()).toEqual(["search", "session"]);
    for (const d of ours)
      expect(d).toMatchObject({
        stream: "USERS",
        subject: `users.${person.id}`,
        reason: expect.stringContaining("nonsense"),
      });

    const listed = await dead("list");
    expect(listed).toContain("analytics");
    const shown = JSON.parse(await dead("show", String(ours[0].seq)));
    expect(shown).toMatchObject({ seq: ours[0].seq, payload: garbage });
    // A retained state is never sent again: its retry brings what is true now.
    const before = (await client.get(`/v1/users/${person.id}`)).body.revision;
    expect(await dead("retry", String(ours[0].seq))).toContain("1 dead letter sent again");
    expect((await client.get(`/v1/users/${person.id}`)).body.revision).toBe(before);
    await dead("drop", "all");
    expect(await dead("list")).toContain("No dead letters");
    const { body } = await client.get("/v1/admin/status", { token: client.operatorToken });
    expect(body.streams.DEAD.messages).toBe(0);
  });

  it("answers 404 for a letter that is not there", async () => {
    for (const [method, path] of [
      ["GET", ""],
      ["DELETE", ""],
      ["POST", "/retry"],
    ] as const) {
      const reply = await client.call(method, `/v1/admin/dead/99999999${path}`, { token: client.operatorToken });
      expect(reply.status, `${method} ${path}`).toBe(404);
    }
    expect((await client.get("/v1/admin/dead/x", { token: client.operatorToken })).status).toBe(400);
    expect((await client.get("/v1/admin/dead")).status).toBe(401);
  });
});
