import { subjects } from "@quartet/contracts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, operator, type UserProcess, World } from "./harness.ts";

const world = new World();
let user: UserProcess;
beforeAll(async () => {
  await world.start();
  user = await world.user({ NATS_STORE_BYTES: "16MB" });
});
afterAll(() => world.stop());

test("FACTS full: who signs up or changes a password is on USERS all the same, and the facts follow when there is room", async () => {
  const js = world.broker.jetstream();
  const before = await user.signUp();
  await eventually(() => world.last("FACTS", subjects.fact("user", "created", before.id)));
  // Filled by somebody else, to the last byte that a heartbeat would fit into.
  for (const size of [200_000, 1_000, 1]) {
    for (let full = false; !full; )
      full = await js.publish("facts.track.filler.-", "x".repeat(size)).then(
        () => false,
        () => true,
      );
  }

  const ids: string[] = [];
  for (let i = 0; i < 20; i++) ids.push((await user.signUp()).id);
  for (const id of ids) {
    const change = { as: operator, body: { password: "another horse battery" } };
    expect((await user.call("PATCH", `/v1/users/${id}`, change)).status).toBe(200);
  }
  for (const id of ids) {
    // What Session ends the other sessions by.
    await eventually(async () => (await world.last("USERS", subjects.user(id)))?.data.credentialEpoch === 1);
    expect(await world.last("FACTS", subjects.fact("user", "created", id))).toBeUndefined();
  }
  // USERS is owed nothing as soon as its first checkpoint is written.
  await eventually(async () => {
    const rows = await world.rows("SELECT stream FROM outbox_owed");
    expect(rows).toEqual([{ stream: "FACTS" }]);
    return true;
  });
  const page = await (await fetch(`${user.admin}/metrics`)).text();
  expect(page).toMatch(/quartet_stream_limit_bytes\{stream="FACTS"\} 5872025/);
  expect(page).toMatch(/quartet_outbox_owed_seconds\{source="user",stream="FACTS"\} \d/);

  // Killed and started over, it still knows.
  await user.kill();
  user = await world.user({ NATS_STORE_BYTES: "16MB" });
  const jsm = await world.broker.jetstreamManager();
  await jsm.streams.purge("FACTS", { filter: "facts.track.filler.-" });
  for (const id of ids) {
    await eventually(() => world.last("FACTS", subjects.fact("user", "created", id)));
    await eventually(() => world.last("FACTS", subjects.fact("user", "updated", id)));
  }
  await eventually(async () => (await world.rows("SELECT stream FROM outbox_owed")).length === 0);
  // Each once: nothing was sent twice beside the ids that JetStream knows.
  for (const id of ids) {
    expect(Object.values(await world.counts("FACTS", subjects.factsOf(id))).reduce((a, b) => a + b)).toBe(2);
  }
  const heartbeat = async () => (await world.last("FACTS", subjects.heartbeat("FACTS", "user")))?.seq;
  const seen = await heartbeat();
  await eventually(async () => (await heartbeat()) !== seen);
});

test("FACTS short of room: what Analytics has applied and sealed is purged, no more than it takes, and who is erased meanwhile is erased", async () => {
  const js = world.broker.jetstream();
  const jsm = await world.broker.jetstreamManager();
  const facts = () => jsm.streams.info("FACTS");
  const used = async () => {
    const { config, state } = await facts();
    return state.bytes / config.max_bytes;
  };
  const fill = async (until: number) => {
    while ((await used()) < until) await js.publish("facts.track.filler.-", "x".repeat(50_000));
  };
  const purged = async () => {
    const page = await (await fetch(`${user.admin}/metrics`)).text();
    return Number(/quartet_stream_purged_total\{stream="FACTS"\} (\d+)/.exec(page)?.[1] ?? 0);
  };
  const created = String((await facts()).created);
  let asked = 0;
  const answer = (sealed: { stream: string; upto: number } | number) => {
    asked = 0;
    world.analytics.sealed = () => {
      asked++;
      return sealed;
    };
  };
  const askedAgain = () => eventually(() => asked >= 3);

  // The fact of this erasure is below all that fills the stream, and nobody has looked whether it is there.
  world.session.erasure = () => "pending";
  const gone = await user.signUp();
  const { erasureId } = (await user.call("DELETE", `/v1/users/${gone.id}`, { as: gone.id })).body;
  const erased = await eventually(() => world.last("FACTS", subjects.fact("user", "erased", gone.id)));

  const { first_seq } = (await facts()).state;
  answer(503);
  await fill(0.7);
  expect(asked).toBe(0);
  await fill(0.8);
  await askedAgain();
  answer({ stream: created, upto: 0 });
  await askedAgain();
  answer({ stream: "2020-01-01T00:00:00.000000000Z", upto: 1_000_000_000 });
  await askedAgain();
  expect([(await facts()).state.first_seq, await purged()]).toEqual([first_seq, 0]);

  // Not beyond what is sealed, though it is too little.
  answer({ stream: created, upto: erased.seq });
  await eventually(async () => (await facts()).state.first_seq > erased.seq);
  await askedAgain();
  expect((await facts()).state.first_seq).toBe(erased.seq + 1);
  expect(await purged()).toBeGreaterThan(0);

  // Not more than it takes.
  answer({ stream: created, upto: (await facts()).state.last_seq });
  await eventually(async () => (await used()) < 0.75);
  expect(await used()).toBeGreaterThan(0.6);
  expect(user.log()).toContain("made room");

  expect(await world.last("FACTS", subjects.fact("user", "erased", gone.id))).toBeUndefined();
  world.session.erasure = () => "complete";
  await eventually(async () => (await user.call("GET", `/v1/erasures/${erasureId}`)).body.state === "complete");
});
