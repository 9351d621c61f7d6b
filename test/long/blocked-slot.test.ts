import { subjects } from "@quartet/contracts";
import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { eventually, operator, type UserProcess, World } from "../../services/user/test/harness.ts";

const MINUTES = Number(process.env.QUARTET_BLOCKED_MINUTES ?? 5);
const SLOT = "user_relay";

const world = new World();
let user: UserProcess;
beforeAll(async () => {
  await world.start();
  user = await world.user();
});
afterAll(() => world.stop());

const metrics = async () => (await fetch(`${user.admin}/metrics`)).text();
/** Labels and value of the figure that says whom the slot waits for. */
const waits = async () => {
  const [, pid, application, seconds] =
    /^quartet_outbox_slot_waits_seconds\{pid="([^"]*)",application="([^"]*)"\} (\S+)$/m.exec(await metrics()) ?? [];
  return { pid, application, seconds: Number(seconds) };
};
const resent = async () =>
  [...(await metrics()).matchAll(/^quartet_outbox_resent_total\{[^}]*\} (\d+)$/gm)].reduce(
    (n, [, v]) => n + Number(v),
    0,
  );

/** Somebody signs up and changes something; resolves when both streams say so. */
async function change(): Promise<string> {
  const { id } = await user.signUp();
  const { status } = await user.call("PATCH", `/v1/users/${id}`, { as: operator, body: { bio: "changed" } });
  expect(status).toBe(200);
  await eventually(async () => (await world.last("USERS", subjects.user(id)))?.data.bio === "changed");
  await eventually(() => world.last("FACTS", subjects.fact("user", "updated", id)));
  return id;
}

it(`a slot that is blocked for ${MINUTES} minutes: it is said by whom, all changes are relayed meanwhile, and all is well afterwards`, async () => {
  const ids = [await change()];
  // Somebody else's, in another database of the server.
  const blocker = new pg.Client({
    connectionString: new URL("/postgres", world.postgres.url).href,
    application_name: "a nightly report",
  });
  await blocker.connect();
  await blocker.query("BEGIN");
  await blocker.query("SELECT pg_current_xact_id()");
  const { pid } = (await blocker.query("SELECT pg_backend_pid() AS pid")).rows[0];
  await user.kill();
  await eventually(() => world.sql.query("SELECT pg_drop_replication_slot($1)", [SLOT]).then(() => true));
  user = await world.user();

  await eventually(async () => (await waits()).application === "a nightly report");
  expect(await waits()).toMatchObject({ pid: String(pid) });
  const line = user
    .log()
    .split("\n")
    .find((l) => l.includes("waits for a transaction to end"));
  expect(JSON.parse(line as string)).toMatchObject({ level: expect.anything(), pid, application: "a nightly report" });

  for (const until = performance.now() + MINUTES * 60_000; performance.now() < until; ) ids.push(await change());
  console.log(`${ids.length} people signed up and changed something while the slot was blocked`);
  const slots = await world.rows("SELECT FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL");
  expect(slots).toEqual([]);
  expect(await waits()).toMatchObject({ pid: String(pid), application: "a nightly report" });
  // Long since more than the alert asks for.
  expect((await waits()).seconds).toBeGreaterThan(MINUTES * 60 * 0.9);

  await blocker.query("COMMIT");
  await blocker.end();
  await eventually(async () => (await waits()).pid === "none");
  await eventually(async () => (await world.rows("SELECT FROM outbox_owed")).length === 0);
  const before = await resent();
  for (let i = 0; i < 10; i++) ids.push(await change());
  expect(await resent()).toBe(before);
  for (const id of ids) {
    const counts = await world.counts("FACTS", subjects.factsOf(id));
    expect(Object.values(counts)).toEqual([1, 1]);
  }
});
