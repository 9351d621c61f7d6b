import { createClient } from "@clickhouse/client";
import { emit, type Outgoing, uuidv7 } from "@quartet/contracts";
import { fixtures } from "@quartet/contracts/fixtures";
import { eventually, type ServiceProcess } from "@quartet/service/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { factKey } from "../src/store/facts.ts";
import { createWorld, settle, type World } from "./world.ts";

let world: World;
let service: ServiceProcess;
let beat: NodeJS.Timeout;
const gateway = { kind: "service", name: "gateway" } as const;
const user = { kind: "service", name: "user" } as const;

beforeAll(async () => {
  world = await createWorld();
  await world.makeStreams();
  service = await world.start({ AUDIT_INTERVAL_MS: "1000" });
  await eventually(() => service.ready(), { what: "the service" });
  beat = setInterval(() => void world.heartbeat(new Date()).catch(() => {}), 250);
});
afterAll(async () => {
  clearInterval(beat);
  if (process.env.SHOW) (await import("node:fs")).writeFileSync(process.env.SHOW, service.log);
  await world?.dispose();
});

const people = Array.from({ length: 300 }, () => uuidv7());
const made = (): Outgoing[] =>
  people.flatMap((id, i) => [
    emit.userFact("created", id, 1, { time: new Date(1.7e12 + i * 1000), revision: 1 }),
    emit.track(`t:${id}`, { name: "seen.page", userId: id, properties: { n: i, s: "ä|:1" } }, { time: new Date() }),
    emit.track(
      `t:a:${id}`,
      { name: "seen.page", userId: null, properties: { zz: true, a: null } },
      { time: new Date() },
    ),
  ]);

async function sql<T>(query: string): Promise<T[]> {
  const client = createClient({ url: world.clickhouse.url, database: "analytics" });
  try {
    if (!/^SELECT/.test(query)) {
      await client.command({ query, clickhouse_settings: { mutations_sync: "1" } });
      return [];
    }
    return await (await client.query({ query, format: "JSONEachRow" })).json<T>();
  } finally {
    await client.close();
  }
}

/** All rows as they are told apart, but for when they came. */
const picture = async (table = "facts"): Promise<string> =>
  JSON.stringify(await sql(`SELECT * EXCEPT received_at FROM ${table} FINAL ORDER BY id`));

async function round(): Promise<{
  compared: number;
  drift: number;
  mended: number;
  users: { id: string; kind: string }[];
}> {
  const { body } = await service.call("POST", "/internal/audit", { as: gateway });
  return eventually(
    async () => {
      const [found] = (await service.call("GET", "/internal/audit", { as: gateway })).body.audits;
      return found?.startedAt > body.requested.analytics ? found : undefined;
    },
    { what: "a round of the audit" },
  );
}

describe("the audit of the facts", () => {
  test("what came by the stream is no drift, sent twice or not", async () => {
    await world.publish(made());
    await settle(world, service);
    await world.publish(made().slice(0, 100), { again: true });
    await settle(world, service);
    const found = await round();
    expect(found).toMatchObject({ drift: 0 });
    expect(found.compared).toBe(900);
    expect(await round()).toMatchObject({ drift: 0, compared: 900 });
  });

  test.each([
    ["deleted", `ALTER TABLE facts DELETE WHERE user_id = '${people[3]}'`, ["missing", "missing"]],
    ["all deleted", "TRUNCATE TABLE facts", undefined],
    ["altered", `ALTER TABLE facts UPDATE name = 'other' WHERE user_id = '${people[4]}'`, ["altered", "altered"]],
    [
      "given to another",
      `ALTER TABLE facts UPDATE user_id = '${people[6]}' WHERE user_id = '${people[5]}'`,
      ["altered", "altered"],
    ],
    [
      "made anonymous",
      `ALTER TABLE facts UPDATE user_id = toUUID('00000000-0000-0000-0000-000000000000'), properties = map() WHERE user_id = '${people[7]}'`,
      ["altered", "altered"],
    ],
    [
      "moved in time",
      `ALTER TABLE facts UPDATE occurred_at = occurred_at + 1 WHERE user_id = '${people[8]}'`,
      ["altered", "altered"],
    ],
    [
      "covered by one that claims to be earlier",
      `INSERT INTO facts SELECT * REPLACE (ver + 1 AS ver, 'zz' AS name) FROM facts WHERE user_id = '${people[9]}'`,
      undefined,
    ],
    [
      "invented, without a version",
      `INSERT INTO facts (id, kind, name, user_id, occurred_at) VALUES (77, 'track', 'evil', '${people[1]}', now())`,
      ["invented"],
    ],
    [
      "invented, beside a real one",
      `INSERT INTO facts SELECT * REPLACE (id + 1 AS id) FROM facts WHERE user_id = '${people[2]}'`,
      ["invented", "invented"],
    ],
    [
      "invented, of nobody",
      "INSERT INTO facts SELECT * REPLACE (id + 1 AS id, toUUID('00000000-0000-0000-0000-000000000000') AS user_id, map() AS properties) FROM facts LIMIT 1",
      ["invented"],
    ],
  ])("a row %s by hand is found and put right", async (_what, statement, kinds) => {
    const before = await picture();
    await sql(statement);
    expect(await picture()).not.toBe(before);
    await eventually(async () => (await picture()) === before, { withinMs: 60_000, what: "the mended table" });
    await eventually(async () => (await round()).drift === 0, { what: "a clean round" });
    if (kinds) expect(service.log.match(/drift of facts/g)?.length).toBeGreaterThan(0);
  });

  test("an erasure is no drift, before and after the stream has forgotten the person", async () => {
    const gone = people[20] as string;
    await world.publish([emit.userFact("erased", gone, 2, { time: new Date() })]);
    await settle(world, service);
    await eventually(
      async () =>
        (await service.call("POST", "/internal/erasures", { as: user, body: { userId: gone, version: 2 } })).body
          .state === "complete",
      { what: "the erasure" },
    );
    const before = await picture();
    expect(before).not.toContain(gone);
    await round();
    const jsm = await (await world.nc()).jetstreamManager();
    await jsm.streams.purge("FACTS", { filter: `facts.*.*.${gone}` });
    expect(await round()).toMatchObject({ drift: 0 });
    expect(await round()).toMatchObject({ drift: 0 });
    expect(await picture()).toBe(before);
    // The ledger alone remembers: an anonymous row more is still seen.
    await sql(
      "INSERT INTO facts SELECT * REPLACE (id + 3 AS id) FROM facts WHERE user_id = toUUID('00000000-0000-0000-0000-000000000000') LIMIT 1",
    );
    await eventually(async () => (await picture()) === before, { withinMs: 60_000, what: "the mended table" });
  });
});

describe("a stream that is lost", () => {
  test("what was counted stays counted, sealed or not, and later facts count too", async () => {
    const name = "before.loss";
    const one = (id: string) => emit.track(id, { name, userId: null, properties: { id } }, { time: new Date() });
    const count = async () =>
      Number((await sql<{ n: string }>(`SELECT toString(count()) AS n FROM facts FINAL WHERE name = '${name}'`))[0]?.n);
    await world.publish([one("t:l1"), one("t:l2")]);
    await settle(world, service);
    await round();
    await world.publish([one("t:l3")]);
    await settle(world, service);
    const jsm = await (await world.nc()).jetstreamManager();
    await jsm.streams.delete("FACTS");
    await world.makeStreams();
    await world.publish([one("t:l4")]);
    await settle(world, service);
    await round();
    expect(await round()).toMatchObject({ drift: 0 });
    expect(await count()).toBe(4);
  });
});

const state = async () => (await service.call("GET", "/internal/rebuild", { as: gateway })).body;

describe("a rebuild", () => {
  test("rebuilt equals incremental: under writes, with an erasure and a SIGKILL in the middle, and one at a time", async () => {
    const gone = people[30] as string;
    let writing = true;
    const written: string[] = [];
    const writer = (async () => {
      while (writing) {
        const id = uuidv7();
        await world.publish([
          emit.track(`t:${id}`, { name: "while.rebuilt", userId: id, properties: {} }, { time: new Date() }),
        ]);
        written.push(id);
      }
    })();
    const totals = async () =>
      (await service.call("GET", "/v1/analytics/signups?from=2000-01-01&to=2100-01-01&interval=month")).body
        .total as number;
    expect(await totals()).toBe(300);
    const [before] = await sql<{ uuid: string }>(
      "SELECT toString(uuid) AS uuid FROM system.tables WHERE name = 'facts'",
    );

    expect((await service.call("POST", "/internal/rebuild", { as: gateway })).status).toBe(202);
    expect((await service.call("POST", "/internal/rebuild", { as: gateway })).status).toBe(409);
    await service.kill();
    service = await world.start({ AUDIT_INTERVAL_MS: "1000" });
    await world.publish([emit.userFact("erased", gone, 2, { time: new Date() })]);
    let reads = 0;
    await eventually(
      async () => {
        const answer = await service.call("GET", "/v1/analytics/signups?from=2000-01-01&to=2100-01-01&interval=month");
        // 503 while a process starts; never an answer that is not whole.
        if (answer.status === 200) {
          expect(answer.body.total).toBe(300);
          reads++;
        }
        const now = await state();
        return now.state === "complete";
      },
      { withinMs: 120_000, what: "the rebuild" },
    );
    expect(reads).toBeGreaterThan(0);
    writing = false;
    await writer;
    await settle(world, service);
    const [after] = await sql<{ uuid: string }>(
      "SELECT toString(uuid) AS uuid FROM system.tables WHERE name = 'facts'",
    );
    expect(after?.uuid).not.toBe(before?.uuid);
    const [counted] = await sql<{ n: string }>(
      "SELECT toString(uniqExact(user_id)) AS n FROM facts FINAL WHERE name = 'while.rebuilt'",
    );
    expect(Number(counted?.n)).toBe(written.length);
    expect(await picture()).not.toContain(gone);
    await eventually(async () => (await sql("SELECT name FROM system.tables WHERE name = 'facts_next'")).length === 0);
    const incremental = await picture();
    // Once more without writes: the very same rows.
    expect((await service.call("POST", "/internal/rebuild", { as: gateway })).status).toBe(202);
    const { startedAt } = await state();
    await eventually(async () => {
      const now = await state();
      return now.state === "complete" && now.startedAt >= startedAt;
    });
    expect(await picture()).toBe(incremental);
    expect(await round()).toMatchObject({ drift: 0 });
  }, 240_000);
});

describe("a log that is purged early", () => {
  const sealed = async (at = service) => (await at.call("POST", "/internal/sealed", { as: user })).body;

  test("what is sealed may go: not before it is applied, and a rebuild has it all the same, also where it comes again", async () => {
    const name = "purged.early";
    const one = (id: string, n: number) =>
      emit.track(id, { name, userId: null, properties: { n } }, { time: new Date(1.7e12 + n) });
    const ids = Array.from({ length: 50 }, (_, i) => `t:${name}:${i}`);
    await service.kill();
    const api = await world.start({ ROLE: "api" });
    await eventually(() => api.ready(), { what: "the service without a projector" });
    const seq = await world.publish(ids.map((id) => one(id, 1)));
    const first = seq - ids.length + 1;
    for (let i = 0; i < 3; i++) expect((await sealed(api)).upto).toBeLessThan(first);
    await api.kill();
    service = await world.start({ AUDIT_INTERVAL_MS: "1000" });
    const { upto, stream } = await eventually(
      async () => {
        const now = await sealed();
        return now.upto >= seq && now;
      },
      { what: "what is sealed" },
    );
    const jsm = await (await world.nc()).jetstreamManager();
    expect(stream).toBe((await jsm.streams.info("FACTS")).created);
    await settle(world, service);
    const before = await picture();
    await jsm.streams.purge("FACTS", { seq: upto + 1 });
    // As a client does that has heard nothing: the same events, of a later time.
    await world.publish(
      ids.map((id) => one(id, 2)),
      { again: true },
    );
    await settle(world, service);
    expect(await picture()).toBe(before);
    expect(await round()).toMatchObject({ drift: 0 });

    const rebuilt = (await service.call("POST", "/internal/rebuild", { as: gateway })).status;
    expect(rebuilt).toBe(202);
    const { startedAt } = await state();
    await eventually(
      async () => {
        const now = await state();
        return now.state === "complete" && now.startedAt >= startedAt;
      },
      { withinMs: 60_000, what: "the rebuild" },
    );
    expect(await picture()).toBe(before);
    expect(await round()).toMatchObject({ drift: 0 });
  }, 240_000);
});

test("events of every past version become rows", async () => {
  const js = (await world.nc()).jetstream();
  const kept = fixtures().filter(({ subject }) => subject.startsWith("facts."));
  for (const { subject, event } of kept) await js.publish(subject, JSON.stringify(event));
  await settle(world, service);
  const keys = kept.map(({ event }) => `'${factKey(event.id as string)}'`).join(", ");
  const [found] = await sql<{ n: string }>(
    `SELECT toString(count()) AS n FROM facts FINAL WHERE toString(id) IN (${keys})`,
  );
  expect(Number(found?.n)).toBe(kept.length);
});
