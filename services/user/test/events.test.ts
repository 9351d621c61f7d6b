import { randomUUID } from "node:crypto";
import { decodeEvent, makeVersion, profileDigest, sessionProfileDigest, subjects } from "@quartet/contracts";
import { headers } from "nats";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type Json, operator, PASSWORD, person, type UserProcess, World } from "./harness.ts";

const world = new World();
let user: UserProcess;
beforeAll(async () => {
  await world.start();
});
afterAll(() => world.stop());

const state = (id: string): Promise<Json> => world.last("USERS", subjects.user(id));
const remove = (id: string) => user.call("DELETE", `/v1/users/${id}`, { as: id });
const TOMBSTONE = "quartet.user.tombstone.v1";
/** The last that USERS says of a person, once it says `version` or something above it. */
const stateFrom = (id: string, version: number): Promise<Json> =>
  eventually(async () => {
    const last = await state(id);
    return last?.version >= version && last;
  });

test("three processes that start at once make the schema together, and one of them relays", async () => {
  const processes = await Promise.all([world.user({ ROLE: "relay" }), world.user({ ROLE: "relay" }), world.user()]);
  user = processes[2]!;
  const steps = await world.rows("SELECT name FROM schema_migrations ORDER BY name");
  const taken = processes.flatMap((p) =>
    p
      .log()
      .split("\n")
      .filter((line) => line.includes('"taken"'))
      .flatMap((line) => JSON.parse(line).taken),
  );
  expect(taken.sort()).toEqual(steps.map((s) => s.name));
  expect(await world.rows("SELECT count(*)::int AS n FROM restore_epoch")).toEqual([{ n: 1 }]);

  const beats = async (stream: "USERS" | "FACTS"): Promise<number | false> =>
    Date.parse((await world.last(stream, subjects.heartbeat(stream, "user")))?.data.at) || false;
  for (const stream of ["USERS", "FACTS"] as const) {
    const first = await eventually(() => beats(stream));
    await eventually(async () => Number(await beats(stream)) > first);
  }
  // Whoever of them relays: one that is killed is replaced.
  await processes[0]!.kill();
  await processes[1]!.kill();
  const since = Date.now();
  await eventually(async () => Number(await beats("USERS")) > since);
  const { body } = await eventually(async () => {
    const answer = await user.internal("GET", "/status");
    return typeof answer.body.relays.user.lagSeconds === "number" && answer;
  });
  expect(body).toMatchObject({
    store: { up: true, users: 0 },
    nats: { up: true },
    audit: { drift: null, checkedAt: null },
  });
  expect(Object.keys(body.streams).sort()).toEqual(["DEAD", "FACTS", "USERS"]);
});

describe("what is told", () => {
  test("is every change: the newest state on USERS, each fact on FACTS, and no email nor password anywhere", async () => {
    const ann = person({ bio: "hello" });
    const { id } = await user.signUp(ann);
    const change = { bio: "changed", password: "another password", currentPassword: PASSWORD };
    expect((await user.call("PATCH", `/v1/users/${id}`, { as: id, body: change })).status).toBe(200);
    const last = await stateFrom(id, 2);
    expect(decodeEvent(JSON.stringify(last))).toMatchObject({
      type: "quartet.user.state.v1",
      version: 2,
      revision: 2,
    });
    expect(last.data).toMatchObject({ id, bio: "changed", handle: ann.handle, credentialEpoch: 1 });
    const changed = await eventually(() => world.last("FACTS", subjects.fact("user", "updated", id)));
    expect(changed).toMatchObject({ id: `u:${id}:2`, data: { userId: id, fields: ["bio", "password"] } });
    expect(await world.last("FACTS", subjects.fact("user", "created", id))).toMatchObject({ id: `u:${id}:1` });
    const kept = await world.rows("SELECT payload FROM outbox WHERE key = $1", [id]);
    for (const secret of [ann.email, ann.password, "another password", "argon2"])
      expect(JSON.stringify([last, changed, kept])).not.toContain(secret);
  });

  test("waits for NATS, and nothing else does", async () => {
    await world.nats.kill();
    const { id } = await user.signUp();
    expect((await user.call("PATCH", `/v1/users/${id}`, { as: id, body: { bio: "2" } })).status).toBe(200);
    const dead = await user.internal("GET", "/dead");
    expect([dead.status, dead.headers.get("retry-after")]).toEqual([503, "1"]);
    expect((await user.internal("GET", "/status")).body).toMatchObject({ store: { up: true }, nats: { up: false } });
    expect((await fetch(`${user.admin}/readyz`)).status).toBe(200);
    await world.nats.start();
    expect((await stateFrom(id, 2)).data.bio).toBe("2");
  });
});

describe("repair", () => {
  const repair = async (id: string, above: number): Promise<Json> =>
    (await user.internal("POST", "/repair", { users: [{ id, above }] })).body.users[0];

  test("emits what is true now, above the version that was seen", async () => {
    const { id } = await user.signUp();
    expect(await repair(id, 41)).toEqual({ id, version: 42, state: "user" });
    expect(await stateFrom(id, 42)).toMatchObject({ version: 42, revision: 1 });
    expect((await user.call("PATCH", `/v1/users/${id}`, { as: id, body: { bio: "x" } })).status).toBe(200);
    expect(await stateFrom(id, 43)).toMatchObject({ version: 43, revision: 2 });
  });

  test("brings nobody back: a tombstone for whoever is gone or never was", async () => {
    const { id } = await user.signUp();
    await remove(id);
    expect(await repair(id, 9)).toEqual({ id, version: 10, state: "tombstone" });
    expect((await stateFrom(id, 10)).type).toBe(TOMBSTONE);
    const stranger = randomUUID();
    expect(await repair(stranger, 5)).toEqual({ id: stranger, version: 6, state: "tombstone" });
    expect((await stateFrom(stranger, 6)).type).toBe(TOMBSTONE);
  });

  test("that races an erasure ends with the tombstone", async () => {
    const { id } = await user.signUp();
    await Promise.all([remove(id), ...Array.from({ length: 5 }, (_, i) => repair(id, i))]);
    const [{ version }] = (await user.internal("POST", "/repair", { users: [{ id, above: 0 }] })).body.users;
    expect((await stateFrom(id, version)).type).toBe(TOMBSTONE);
  });
});

describe("dead letters", () => {
  const park = async (consumer: string, stream: string, subject: string, data: unknown): Promise<number> => {
    const h = headers();
    const said = { Reason: "it was bad", Stream: stream, Subject: subject, Sequence: "7", Consumer: consumer };
    for (const [name, value] of Object.entries(said)) h.set(`Quartet-Dead-${name}`, value);
    h.set("Quartet-Dead-Time", new Date().toISOString());
    const js = world.broker.jetstream();
    const to = subjects.dead(consumer, subject.split(".").at(-1)!);
    return (await js.publish(to, JSON.stringify(data), { headers: h })).seq;
  };
  const letters = async (query = ""): Promise<Json> => (await user.internal("GET", `/dead${query}`)).body;

  test("are listed in pages, shown and dropped", async () => {
    const id = randomUUID();
    const seqs = [];
    for (let n = 0; n < 3; n++) seqs.push(await park("analytics", "FACTS", subjects.fact("track", "x", id), { n }));
    const page = await letters(`?limit=2&after=${seqs[0]! - 1}`);
    expect(page).toMatchObject({ next: seqs[1], deadLetters: [{ seq: seqs[0] }, { seq: seqs[1] }] });
    expect((await letters(`?after=${page.next}`)).deadLetters.map((l: Json) => l.seq)).toEqual([seqs[2]]);
    const one = await user.internal("GET", `/dead/${seqs[0]}`);
    const expected = { consumer: "analytics", reason: "it was bad", stream: "FACTS", sequence: 7, payload: '{"n":0}' };
    expect(one.body).toMatchObject(expected);
    for (const seq of seqs) expect((await user.internal("DELETE", `/dead/${seq}`)).status).toBe(204);
    expect(await letters()).toEqual({ deadLetters: [] });
    for (const method of ["GET", "DELETE"]) expect((await user.internal(method, `/dead/${seqs[0]}`)).status).toBe(404);
    expect((await user.internal("POST", `/dead/${seqs[0]}/retry`)).status).toBe(404);
    expect((await user.internal("GET", "/dead/x")).status).toBe(400);
    expect((await user.internal("GET", "/dead?limit=0")).status).toBe(400);
  });

  test("that are facts are published again, those that are states bring the current state", async () => {
    const subject = subjects.fact("track", "retried", randomUUID());
    const fact = await park("analytics", "FACTS", subject, { once: "more" });
    expect((await user.internal("POST", `/dead/${fact}/retry`)).status).toBe(202);
    expect(await world.last("FACTS", subject)).toMatchObject({ once: "more" });

    const { id } = await user.signUp({ bio: "the truth" });
    const old = { version: 17, data: { id, bio: "what it once was" } };
    const letter = await park("search", "USERS", subjects.user(id), old);
    expect((await user.internal("POST", `/dead/${letter}/retry`)).status).toBe(202);
    expect(await stateFrom(id, 18)).toMatchObject({ version: 18, data: { bio: "the truth" } });
    expect(await letters()).toEqual({ deadLetters: [] });
  });
});

const profile = (r: Json) => ({
  ...r,
  displayName: r.display_name,
  revision: Number(r.revision),
  credentialEpoch: Number(r.credential_epoch),
});
/** Both read models as they are when everything has come. */
const catchUp = async () => {
  const rows = await world.rows("SELECT * FROM users");
  for (const row of rows) {
    const version = Number(row.counter);
    world.search.held.set(row.id, { version, digest: profileDigest(profile(row)) });
    world.session.held.set(row.id, { version, digest: sessionProfileDigest(profile(row)) });
  }
  return rows;
};

describe("the audit", () => {
  const audit = async (ms = 30_000): Promise<number> => {
    const since = Date.now();
    return eventually(async () => {
      const { drift, checkedAt } = (await user.internal("GET", "/status")).body.audit;
      return Date.parse(checkedAt) > since && { drift };
    }, ms).then((a) => a.drift);
  };

  test("finds nothing where nothing is wrong, finds what is, and has it mended", async () => {
    const rows = await catchUp();
    await user.kill("SIGTERM");
    user = await world.user({ AUDIT_INTERVAL_MS: "300" });
    expect(await audit()).toBe(0);

    // It is drift only once the read model has had the time to know better.
    world.search.asOf = () => null;
    world.session.asOf = () => null;
    const [wrong, missing] = rows;
    const invented = randomUUID();
    world.search.held.set(wrong.id, { version: 90, digest: "0".repeat(32) });
    world.search.held.set(invented, { version: 3, digest: "0".repeat(32) });
    world.session.held.delete(missing.id);
    const asked = world.search.digestsAsked;
    await eventually(() => world.search.digestsAsked > asked + 3);
    expect(await world.rows("SELECT 1 FROM tombstones WHERE user_id = $1", [invented])).toEqual([]);
    world.search.asOf = () => new Date().toISOString();
    world.session.asOf = () => new Date().toISOString();
    expect(await stateFrom(wrong.id, 91)).toMatchObject({ type: "quartet.user.state.v1" });
    expect(await stateFrom(invented, 4)).toMatchObject({ type: TOMBSTONE });
    await stateFrom(missing.id, Number(missing.counter) + 9);
    // It is told as long as the read models do not take it over; who was emitted again is behind in the other one too.
    await eventually(async () => (await audit()) >= 3);
    const found = (await user.internal("GET", "/audit")).body.audits;
    expect(found.flatMap((f: Json) => f.users.map((u: Json) => `${f.store} ${u.kind} ${u.id}`))).toEqual(
      expect.arrayContaining([
        `search altered ${wrong.id}`,
        `search invented ${invented}`,
        `session missing ${missing.id}`,
      ]),
    );

    world.search.held.delete(invented);
    await eventually(async () => {
      await catchUp();
      return (await audit()) === 0;
    });
    const ask = async () => {
      const asked = (await user.internal("POST", "/audit")).body.requested;
      return async () => {
        const { audits } = (await user.internal("GET", "/audit")).body;
        return audits.length === 2 && audits.every((f: Json) => f.startedAt >= asked[f.store] && f.drift === 0);
      };
    };
    await eventually(await ask());
    await user.kill("SIGTERM");
    user = await world.user({ AUDIT_INTERVAL_MS: "0" });
    // Asked for while a read model is away, it is made good when that is back, without being asked for again.
    world.session.away = true;
    const before = world.session.digestsAsked;
    const done = await ask();
    await eventually(() => world.session.digestsAsked > before);
    world.session.away = false;
    await eventually(done);
    await user.kill("SIGTERM");
    user = await world.user();
  });
});

describe("a stream that is lost", () => {
  test("USERS deleted by hand: every user and every tombstone is emitted again", async () => {
    const people = Array.from({ length: 1100 }, (_, i) => ({ key: `lost-${i}`, displayName: `Lost ${i}` }));
    for (const part of [people.slice(0, 600), people.slice(600)])
      await user.internal("POST", "/import", { users: part });
    const gone = await user.signUp();
    await remove(gone.id);
    const jsm = await world.broker.jetstreamManager();
    const wanted = async (): Promise<string[]> =>
      (await world.rows("SELECT id FROM users UNION SELECT user_id FROM tombstones")).map((r) => subjects.user(r.id));
    const complete = async () => {
      const [subjectsThere, ids] = [await world.counts("USERS", "users.*"), await wanted()];
      return ids.every((id) => subjectsThere[id]);
    };
    await eventually(complete);
    // Older than what the outbox and the WAL keep: only the rows themselves can tell.
    const [{ lsn }] = await world.rows("SELECT pg_current_wal_lsn() AS lsn");
    const confirmed = "SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn >= $1::pg_lsn";
    await eventually(async () => (await world.rows(confirmed, [lsn])).length === 1);
    await world.sql.query("DELETE FROM outbox");
    await jsm.streams.delete("USERS");
    await eventually(complete, 60_000);
    const open = async () => (await world.rows("SELECT 1 FROM reemissions WHERE phase <> 'done'")).length;
    await eventually(async () => (await open()) === 0);
    expect((await state(gone.id)).type).toBe(TOMBSTONE);
    const some = await user.signUp();
    expect(await stateFrom(some.id, 1)).toMatchObject({ version: 1 });
  });
});

describe("a restored database", () => {
  test("begins an epoch that beats whatever the log holds, and erases again whom the log knows to be erased", async () => {
    const [kept, erased] = [await user.signUp({ bio: "in the backup" }), await user.signUp()];
    await world.sql.query("CREATE TABLE backup AS SELECT * FROM users WHERE id = ANY ($1)", [[kept.id, erased.id]]);
    for (let i = 0; i < 5; i++)
      await user.call("PATCH", `/v1/users/${kept.id}`, { as: operator, body: { bio: `after the backup ${i}` } });
    const { erasureId } = (await remove(erased.id)).body;
    await eventually(async () => (await user.call("GET", `/v1/erasures/${erasureId}`)).body.state === "complete");
    expect((await stateFrom(kept.id, 6)).data.bio).toBe("after the backup 4");
    expect((await stateFrom(erased.id, 2)).type).toBe(TOMBSTONE);

    // As if the whole had been filled from a dump in another cluster.
    await user.kill("SIGTERM");
    await world.sql.query(`
      BEGIN;
      DELETE FROM users WHERE id IN (SELECT id FROM backup);
      DELETE FROM tombstones WHERE user_id IN (SELECT id FROM backup);
      DELETE FROM erasures WHERE user_id IN (SELECT id FROM backup);
      INSERT INTO users SELECT * FROM backup;
      UPDATE restore_epoch SET cluster = 'another';
      COMMIT`);
    user = await world.user();
    expect(await stateFrom(kept.id, makeVersion(1, 0))).toMatchObject({ revision: 1, data: { bio: "in the backup" } });
    expect((await stateFrom(erased.id, makeVersion(1, 0))).type).toBe(TOMBSTONE);
    await eventually(async () => (await user.call("GET", `/v1/users/${erased.id}`)).status === 404);
    expect(await world.rows("SELECT epoch FROM restore_epoch")).toEqual([{ epoch: 1 }]);

    await user.kill("SIGTERM");
    user = await world.user();
    expect(await world.rows("SELECT epoch FROM restore_epoch")).toEqual([{ epoch: 1 }]);
    // Where the cluster cannot tell (a volume snapshot), somebody says it.
    expect((await user.internal("POST", "/restored")).body).toEqual({ epoch: 2 });
    await stateFrom(kept.id, makeVersion(2, 0));
  });
});

describe("of two processes", () => {
  /** A figure of a process, undefined where it does not tell it. */
  const figure = async (process: UserProcess, name: string): Promise<number | undefined> => {
    const text = await (await fetch(`${process.admin}/metrics`)).text();
    const value = new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "m").exec(text)?.[1];
    return value === undefined ? undefined : Number(value);
  };
  const relays = (process: UserProcess) => figure(process, "quartet_outbox_relay_active");
  /** Who has never audited has no time of an audit to tell. */
  const audits = async (process: UserProcess) =>
    (await figure(process, "quartet_audit_last_timestamp_seconds")) === undefined ? 0 : 1;
  const start = () => world.user({ ROLE: "relay", AUDIT_INTERVAL_MS: "200" });
  /** Every look finds the one work alone, over ten rounds of the audit. */
  const worksAlone = async (one: UserProcess, other: UserProcess) => {
    await eventually(async () => (await relays(one)) === 1 && (await audits(one)) === 1, 60_000);
    const until = world.search.digestsAsked + 10;
    while (world.search.digestsAsked < until)
      expect([await relays(one), await relays(other), await audits(other)]).toEqual([1, 0, 0]);
  };

  test("one relays and audits; when it is killed the other does, and when that one ends, the next", async () => {
    await user.kill("SIGTERM");
    // A round that finds drift waits to see whether it stays.
    world.search.held.clear();
    world.session.held.clear();
    await catchUp();
    const first = await start();
    await eventually(async () => (await relays(first)) === 1 && (await audits(first)) === 1);
    const second = await start();
    await worksAlone(first, second);
    await first.kill("SIGKILL");
    const third = await start();
    await eventually(async () => (await relays(second)) === 1 || (await relays(third)) === 1, 60_000);
    const [heir, other] = (await relays(second)) === 1 ? [second, third] : [third, second];
    await eventually(async () => (await audits(second)) + (await audits(third)) === 1, 60_000);
    await heir.kill("SIGTERM");
    await eventually(async () => (await relays(other)) === 1 && (await audits(other)) === 1, 60_000);
    await other.kill("SIGTERM");
    user = await world.user();
    // The lease of an auditor that was killed runs for fifteen seconds.
  }, 180_000);
});
