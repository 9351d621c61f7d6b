import { subjects } from "@quartet/contracts";
import { createLogger } from "@quartet/service";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { Database } from "../src/store/database.ts";
import { takeDueErasures } from "../src/store/erasures.ts";
import { eventually, type Json, type UserProcess, World } from "./harness.ts";

const world = new World();
let user: UserProcess;
beforeAll(async () => {
  await world.start();
  user = await world.user();
});
afterAll(() => world.stop());
beforeEach(() => {
  for (const participant of [world.session, world.search, world.analytics]) {
    participant.erasure = () => "complete";
    participant.asked.length = 0;
  }
});

const receipts = async (erasureId: string): Promise<Json> => (await user.call("GET", `/v1/erasures/${erasureId}`)).body;
const states = (body: Json): string =>
  ["session", "search", "analytics", "user"].map((s) => (body.stores[s].state === "complete" ? s : "-")).join(" ");
const until = (erasureId: string, wanted: string): Promise<Json> =>
  eventually(async () => {
    const body = await receipts(erasureId);
    return states(body) === wanted && body;
  }, 40_000);

/** A person of whom every kind of trace exists. */
async function traced(): Promise<{ id: string; email: string; erase: () => Promise<string> }> {
  const { id, email } = await user.signUp({ bio: "a secret of this person" });
  await user.call("PATCH", `/v1/users/${id}`, { as: id, body: { bio: "another secret" } });
  await eventually(() => world.last("FACTS", subjects.fact("user", "updated", id)));
  const js = world.broker.jetstream();
  await js.publish(subjects.fact("track", "page.viewed", id), "{}");
  await js.publish(subjects.dead("search", id), JSON.stringify({ bio: "a secret of this person" }));
  const erase = async () => (await user.call("DELETE", `/v1/users/${id}`, { as: id })).body.erasureId;
  return { id, email, erase };
}

async function expectNoTrace(id: string, email: string): Promise<void> {
  expect(await world.counts("FACTS", subjects.factsOf(id))).toEqual({});
  expect(await world.counts("DEAD", subjects.deadOf(id))).toEqual({});
  const last = await world.last("USERS", subjects.user(id));
  expect(last).toMatchObject({ type: "quartet.user.tombstone.v1", data: { id } });
  const rows = await world.rows("SELECT subject, payload FROM outbox WHERE key = $1 ORDER BY seq", [id]);
  expect(rows.map((r) => r.subject)).toEqual([subjects.user(id), subjects.fact("user", "erased", id)]);
  expect(JSON.stringify([rows, last])).not.toContain("secret");
  for (const { table } of await world.rows(
    "SELECT relname AS table FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
  ))
    expect(await world.rows(`SELECT 1 FROM ${table} AS t WHERE t::text LIKE '%' || $1 || '%'`, [email]), table).toEqual(
      [],
    );
}

test("every store confirms, the log is cleared, and the receipts come last", async () => {
  const { id, email, erase } = await traced();
  const erasureId = await erase();
  const body = await until(erasureId, "session search analytics user");
  expect(body).toMatchObject({ id: erasureId, state: "complete" });
  expect(Date.parse(body.completedAt)).toBeGreaterThanOrEqual(Date.parse(body.stores.analytics.confirmedAt));
  await expectNoTrace(id, email);
  for (const participant of [world.session, world.search, world.analytics])
    expect(participant.asked).toEqual([{ userId: id, version: 3 }]);
});

test("killed after every step, it goes on where it was, and no receipt changes", async () => {
  const { id, email, erase } = await traced();
  world.search.erasure = () => "pending";
  world.analytics.erasure = () => "pending";
  const erasureId = await erase();
  const first = await until(erasureId, "session - - -");
  await user.kill("SIGKILL");
  world.search.erasure = () => "complete";
  user = await world.user();
  const second = await until(erasureId, "session search - -");
  expect(second.stores.session).toEqual(first.stores.session);
  expect(second.state).toBe("pending");
  await user.kill("SIGKILL");
  world.analytics.erasure = () => "complete";
  user = await world.user();
  const third = await until(erasureId, "session search analytics user");
  expect(third.stores.search).toEqual(second.stores.search);
  await expectNoTrace(id, email);

  // Killed between the purge and the last receipt: as it was then.
  await user.kill("SIGKILL");
  await world.sql.query("UPDATE erasures SET completed_at = NULL, next_attempt_at = now() WHERE id = $1", [erasureId]);
  await world.broker.jetstream().publish(subjects.fact("track", "late", id), "{}");
  user = await world.user();
  await until(erasureId, "session search analytics user");
  await expectNoTrace(id, email);
});

test("a store that is away or refuses holds up its own receipt alone, and Analytics, which comes after Session", async () => {
  const { id, email, erase } = await traced();
  world.search.erasure = () => 500;
  const erasureId = await erase();
  await until(erasureId, "session - analytics -");
  expect((await world.counts("FACTS", subjects.factsOf(id)))[subjects.fact("track", "page.viewed", id)]).toBe(1);
  world.search.erasure = () => "complete";
  await until(erasureId, "session search analytics user");
  await expectNoTrace(id, email);

  const other = await traced();
  world.session.erasure = () => "pending";
  const otherId = await other.erase();
  await until(otherId, "- search - -");
  expect(world.analytics.asked.some((asked) => asked.userId === other.id)).toBe(false);
  world.session.erasure = () => "complete";
  await until(otherId, "session search analytics user");
});

test("with NATS away it waits, and says so", async () => {
  const { id, email, erase } = await traced();
  await world.nats.kill();
  const erasureId = await erase();
  await until(erasureId, "session search - -");
  expect((await user.call("GET", `/v1/users/${id}`)).status).toBe(404);
  await world.nats.start();
  await until(erasureId, "session search analytics user");
  await expectNoTrace(id, email);
});

test("those that are open come before those that are only to be swept once more", async () => {
  for (const participant of [world.session, world.search, world.analytics]) participant.erasure = () => "pending";
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.push(await (await traced()).erase());
  await user.kill("SIGKILL");
  const [open, ...done] = ids;
  const long =
    "UPDATE erasures SET completed_at = now(), next_attempt_at = now() - interval '1 hour' WHERE id = ANY($1)";
  await world.sql.query(long, [done]);
  await world.sql.query("UPDATE erasures SET next_attempt_at = now() WHERE id = $1", [open]);
  const db = new Database({ url: world.postgres.urlFor("user"), logger: createLogger("user", "silent") });
  db.opened();
  const first = await takeDueErasures(db, 2, 15);
  expect(first.map(({ id }) => id)).toContain(open);
  await db.pool.end();
  user = await world.user();
});

test("what was in flight and arrives later is swept away", async () => {
  const { id, email, erase } = await traced();
  const erasureId = await erase();
  await until(erasureId, "session search analytics user");
  await world.broker.jetstream().publish(subjects.fact("session", "active", id), "{}");
  await world.sql.query("UPDATE erasures SET next_attempt_at = now() WHERE id = $1", [erasureId]);
  await eventually(async () => Object.keys(await world.counts("FACTS", subjects.factsOf(id))).length === 0);
  await expectNoTrace(id, email);
  // Ten minutes after its completion the last sweep is done.
  const long =
    "UPDATE erasures SET completed_at = completed_at - interval '11 min', next_attempt_at = now() WHERE id = $1";
  await world.sql.query(long, [erasureId]);
  await eventually(
    async () => (await world.rows("SELECT swept_at FROM erasures WHERE id = $1", [erasureId]))[0].swept_at,
  );
  expect((await receipts(erasureId)).state).toBe("complete");
});

test("forty at once, by two processes, one of which dies on the way", async () => {
  const people: Awaited<ReturnType<typeof traced>>[] = [];
  for (let n = 0; n < 10; n++) people.push(...(await Promise.all([traced(), traced(), traced(), traced()])));
  const second = await world.user({ ROLE: "relay" });
  const erasures = await Promise.all(people.map((p) => p.erase()));
  await second.kill("SIGKILL");
  for (const erasureId of erasures) await until(erasureId, "session search analytics user");
  for (const { id, email } of people) await expectNoTrace(id, email);
});

test("somebody else publishes every table: an erasure completes all the same, and no table lacks what that takes", async () => {
  const admin = new pg.Client({ connectionString: world.postgres.url });
  await admin.connect();
  await admin.query("CREATE PUBLICATION everything FOR ALL TABLES");
  try {
    const { id, email, erase } = await traced();
    await until(await erase(), "session search analytics user");
    await expectNoTrace(id, email);
    const unidentified = await world.rows(
      `SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
         AND NOT (c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary))`,
    );
    expect(unidentified).toEqual([]);
  } finally {
    await admin.query("DROP PUBLICATION everything");
    await admin.end();
  }
});
