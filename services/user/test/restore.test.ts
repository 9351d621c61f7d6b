import { createHash } from "node:crypto";
import { makeVersion, splitVersion, subjects } from "@quartet/contracts";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { eventually, type Json, type UserProcess, World } from "./harness.ts";

const world = new World();
let user: UserProcess;
beforeAll(async () => {
  await world.start();
  user = await world.user();
});
afterAll(() => world.stop());
beforeEach(() => {
  world.analytics.away = false;
  world.analytics.registryAsked.length = 0;
});

const hashOf = (id: string) => createHash("sha256").update(id).digest("hex");
const receipt = async (erasureId: string): Promise<Json> => (await user.call("GET", `/v1/erasures/${erasureId}`)).body;
const isReady = async () => (await fetch(`${user.admin}/readyz`)).status === 200;
const version = async (id: string) => (await world.last("USERS", subjects.user(id)))?.version ?? 0;
const last = (id: string): Promise<Json> => world.last("USERS", subjects.user(id));

async function erase(id: string): Promise<string> {
  const { erasureId } = (await user.call("DELETE", `/v1/users/${id}`, { as: id })).body;
  await eventually(async () => (await receipt(erasureId)).state === "complete");
  await eventually(() => world.analytics.registry.get(hashOf(id))?.receipt?.completedAt ?? undefined);
  return erasureId;
}

test("a complete erasure is known to the registry by hash alone, with its receipt", async () => {
  const { id } = await user.signUp();
  const erasureId = await erase(id);
  const known = world.analytics.registry.get(hashOf(id));
  const { requestedAt, completedAt, stores } = await receipt(erasureId);
  expect(known?.receipt).toEqual({
    id: erasureId,
    requestedAt,
    completedAt,
    sessionAt: stores.session.confirmedAt,
    searchAt: stores.search.confirmedAt,
    analyticsAt: stores.analytics.confirmedAt,
    goneBy: null,
  });
  expect(JSON.stringify([...world.analytics.registry.values()])).not.toContain(id);
});

test("an erasure is not called complete before the registry knows of it", async () => {
  const { id } = await user.signUp();
  world.analytics.away = true;
  const { erasureId } = (await user.call("DELETE", `/v1/users/${id}`, { as: id })).body;
  await eventually(async () => (await receipt(erasureId)).stores.analytics.state === "complete");
  expect((await receipt(erasureId)).state).toBe("pending");
  world.analytics.away = false;
  await eventually(async () => (await receipt(erasureId)).state === "complete");
});

test("restored from before an erasure, with every stream gone: it waits for the registry, and nobody comes back", async () => {
  const [kept, erased] = [await user.signUp({ bio: "kept" }), await user.signUp({ bio: "a secret" })];
  await eventually(async () => (await version(erased.id)) > 0);
  await user.kill("SIGTERM");
  const restore = await world.dump();
  user = await world.user();
  const [erasureId, late] = [await erase(erased.id), await user.signUp()];
  const [before, lateId] = [await receipt(erasureId), await erase(late.id)];

  await user.kill("SIGTERM");
  await restore();
  await world.loseStreams();
  world.analytics.away = true;
  user = await world.user({}, false);
  // It has asked, and would have gone on if it were to.
  await eventually(() => world.analytics.registryAsked.filter((asked) => asked === "GET /internal/erased").length >= 3);
  expect(await isReady()).toBe(false);
  const shown = await user.call("GET", `/v1/users/${erased.id}`);
  expect([shown.status, shown.body.type, shown.headers.get("retry-after")]).toEqual([
    503,
    "urn:quartet:problem:restoring",
    "1",
  ]);
  for (const { id } of [kept, erased]) expect(await last(id)).toBeUndefined();

  world.analytics.away = false;
  await eventually(isReady);
  expect((await user.call("GET", `/v1/users/${erased.id}`)).status).toBe(404);
  await eventually(async () => (await version(kept.id)) >= makeVersion(1, 0));
  await eventually(async () => (await receipt(erasureId)).state === "complete");
  expect(await receipt(erasureId)).toMatchObject({ id: erasureId, requestedAt: before.requestedAt });
  // The backup has never heard of this one: the receipt is all there is.
  expect(await receipt(lateId)).toMatchObject({
    id: lateId,
    state: "complete",
    stores: { search: { state: "complete" } },
  });
  const stream = await world.counts("USERS", ">");
  expect(stream[subjects.user(erased.id)]).toBe(1);
  expect((await last(erased.id)).type).toBe("quartet.user.tombstone.v1");
  expect((await last(kept.id)).data.bio).toBe("kept");
  expect(await world.counts("FACTS", subjects.factsOf(erased.id))).toEqual({});
  expect(JSON.stringify(await world.rows("SELECT payload FROM outbox"))).not.toContain("a secret");
});

test("promoted while it works: the log says who was erased, and the registry adds the receipts when it answers", async () => {
  const [kept, erased] = [await user.signUp(), await user.signUp()];
  await eventually(async () => (await version(kept.id)) > 0);
  // The streams are new since the test before: older than what the database knows of itself they have to be.
  const jsm = await world.broker.jetstreamManager();
  const created = Date.parse((await jsm.streams.info("USERS")).created);
  await eventually(async () => (await world.rows("SELECT seen_at FROM restore_epoch"))[0].seen_at.getTime() > created);
  // A promotion ends every connection. This one does not: nobody may be emitted again between it and the moment it is noticed.
  await eventually(async () => (await world.rows("SELECT FROM reemissions WHERE phase <> 'done'")).length === 0);
  await world.sql.query("CREATE TABLE lagging AS SELECT * FROM users WHERE id = $1", [erased.id]);
  const erasureId = await erase(erased.id);
  const { epoch } = splitVersion(await version(kept.id));
  world.analytics.away = true;
  // As a replica that lacked the last commits when it was promoted.
  const lose = ["erasures", "tombstones"].map(
    (table) => `DELETE FROM ${table} WHERE user_id IN (SELECT id FROM lagging)`,
  );
  await world.sql.query(
    `BEGIN; ${lose.join("; ")}; INSERT INTO users TABLE lagging; UPDATE restore_epoch SET cluster = 'another'; COMMIT`,
  );
  await eventually(async () => (await version(kept.id)) >= makeVersion(epoch + 1, 0));
  await eventually(async () => (await user.call("GET", `/v1/users/${erased.id}`)).status === 404);
  expect((await last(erased.id)).type).toBe("quartet.user.tombstone.v1");
  expect(await receipt(erasureId)).toMatchObject({ status: 404 });
  world.analytics.away = false;
  await eventually(async () => (await receipt(erasureId)).state === "complete");
});

test("a registry that lost what it knew is told again", async () => {
  const before = world.analytics.registry.size;
  world.analytics.registry.clear();
  world.analytics.registryId = "second";
  await eventually(() => world.analytics.registry.size >= before - 1);
  expect(world.analytics.registryAsked).toContain("POST /internal/erased");
});

test("the receipt says by when the last backup is gone, of all who make backups", async () => {
  await user.kill("SIGTERM");
  user = await world.user({ BACKUP_SCHEDULE: "17 3 * * *", BACKUP_RETENTION_DAYS: "2" });
  const erasureId = await erase((await user.signUp()).id);
  const { requestedAt, backups } = await receipt(erasureId);
  const term = Date.parse(requestedAt) + 2 * 86_400_000;
  // The first run after the term, and the hours that a run may take.
  expect(backups.goneBy).toMatch(/T10:17:00\.000Z$/);
  expect(Date.parse(backups.goneBy)).toBeGreaterThan(term);
  expect(Date.parse(backups.goneBy)).toBeLessThan(term + 32 * 3_600_000);
  world.analytics.goneBy = "2999-01-01T00:00:00.000Z";
  expect((await receipt(await erase((await user.signUp()).id))).backups).toEqual({
    goneBy: "2999-01-01T00:00:00.000Z",
  });
  world.analytics.goneBy = null;
});
