import { describe, expect, it } from "vitest";
import { eventually, logIn, signUp } from "../lib/client.ts";
import { connectAsAdmin } from "../lib/nats.ts";
import { client, home } from "../lib/system.ts";

/** Every message of every stream, as text. */
async function everyMessage(): Promise<string[]> {
  const nc = await connectAsAdmin();
  try {
    const jsm = await nc.jetstreamManager();
    const all: string[] = [];
    for (const name of ["USERS", "FACTS", "DEAD"]) {
      const { state } = await jsm.streams.info(name);
      const consumer = await nc.jetstream().consumers.get(name);
      if (state.messages === 0) continue;
      const messages = await consumer.consume({ max_messages: 1000 });
      for await (const m of messages) {
        all.push(`${m.subject} ${m.string()}`);
        if (m.info.pending === 0) break;
      }
    }
    return all;
  } finally {
    await nc.close();
  }
}

describe.skipIf(!home)("erasure", () => {
  it("leaves nothing of the person in any answer and in any message of any stream", async () => {
    const secret = "Xylophonia Quetzalcoatlus";
    const person = await signUp(client, { displayName: secret, bio: `bio of ${secret}`, tags: ["very-rare-tag"] });
    const { token } = await logIn(client, person, "device of Xylophonia");
    const tracked = await client.post(
      "/v1/track",
      {
        events: [
          { name: "visit", userId: person.id, properties: { who: secret } },
          { name: "other.visit", userId: person.id },
        ],
      },
      { token },
    );
    await client.patch(
      `/v1/users/${person.id}`,
      { bio: `still ${secret}` },
      { token, headers: { "Idempotency-Key": "k" } },
    );
    expect((await client.get(`/v1/search?q=xylophonia`, { after: person.created })).body.total).toBe(1);
    await client.get("/v1/analytics/signups", { after: tracked.token });
    expect((await everyMessage()).some((m) => m.includes(secret))).toBe(true);
    const visits = async () => (await client.get("/v1/analytics/events?name=other.visit")).body.total as number;
    const before = await visits();

    const { body } = await client.delete(`/v1/users/${person.id}`, { token });
    await eventually(
      "the erasure completes",
      async () => (await client.get(`/v1/erasures/${body.erasureId}`)).body.state === "complete",
    );

    const messages = await everyMessage();
    for (const trace of [secret, person.handle, person.email, "very-rare-tag", "device of Xylophonia"]) {
      expect(
        messages.filter((m) => m.includes(trace)),
        trace,
      ).toEqual([]);
    }
    // What is left of the person in the log is the tombstone.
    const left = messages.filter((m) => m.includes(person.id));
    expect(left).toHaveLength(1);
    expect(left[0]).toContain("quartet.user.tombstone.v1");
    const paths = [
      "/v1/search?q=xylophonia",
      `/v1/search?q=${person.handle}`,
      "/v1/search?tag=very-rare-tag",
      "/v1/search/suggest?q=xylo",
      "/v1/analytics/top?name=visit&property=who",
      `/v1/people/${person.id}`,
      `/v1/users/${person.id}`,
      `/v1/erasures/${body.erasureId}`,
    ];
    for (const path of paths) {
      const answer = JSON.stringify((await client.get(path, { token: client.operatorToken })).body);
      for (const trace of [secret, person.handle]) expect(answer, path).not.toContain(trace);
    }
    // The count stays; the person does not.
    expect(await visits()).toBe(before);
  });

  it("finishes although a store is down when it is asked for", async () => {
    const { fault } = await import("../lib/faults.ts");
    const person = await signUp(client);
    const heal = await fault("elasticsearch", "freeze");
    let erasureId: string;
    try {
      const reply = await client.delete(`/v1/users/${person.id}`, { token: client.operatorToken });
      expect(reply.status).toBe(202);
      erasureId = reply.body.erasureId;
      await eventually("the others confirm", async () => {
        const { body } = await client.get(`/v1/erasures/${erasureId}`);
        return (
          body.stores.session.state === "complete" && body.stores.search.state === "pending" && body.state === "pending"
        );
      });
    } finally {
      await heal();
    }
    await eventually(
      "the erasure completes",
      async () => (await client.get(`/v1/erasures/${erasureId}`)).body.state === "complete",
      60_000,
    );
  });
});
