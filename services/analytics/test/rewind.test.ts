import { cpSync, rmSync } from "node:fs";
import { createClient } from "@clickhouse/client";
import { emit, uuidv7 } from "@quartet/contracts";
import { eventually, type ServiceProcess } from "@quartet/service/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createWorld, settle, type World } from "./world.ts";

let world: World;
let service: ServiceProcess;
let beat: NodeJS.Timeout | undefined;
let last: Promise<unknown> = Promise.resolve();
const gateway = { kind: "service", name: "gateway" } as const;
const user = { kind: "service", name: "user" } as const;

beforeAll(async () => {
  world = await createWorld();
  await world.makeStreams();
  service = await world.start({ AUDIT_INTERVAL_MS: "1000" });
  await eventually(() => service.ready(), { what: "the service" });
  startBeating();
});
afterAll(async () => {
  await stopBeating();
  await world?.dispose();
});

function startBeating(): void {
  beat = setInterval(() => {
    last = world.heartbeat(new Date()).catch(() => {});
  }, 250);
}
/** A broker that ends with a heartbeat on its way would leave it hanging. */
async function stopBeating(): Promise<void> {
  clearInterval(beat);
  await last;
}

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

describe("a stream that has lost its end", () => {
  test("what was counted is neither deleted nor counted twice, nor what is erased after it", async () => {
    const [n, name] = [400, "end.loss"];
    const one = (id: string) => emit.track(id, { name, userId: null, properties: { id } }, { time: new Date() });
    const sent = Array.from({ length: n }, (_, i) => one(`t:${name}:${i}`));
    const counted = async (what: string) =>
      Number((await sql<{ n: string }>(`SELECT toString(count()) AS n FROM facts FINAL WHERE name = '${what}'`))[0]?.n);
    const mended = () => service.log.match(/drift of facts/g)?.length ?? 0;
    await settle(world, service);
    await round();
    const before = mended();
    const signups = await counted("created");

    const jsm = await (await world.nc()).jetstreamManager({ timeout: 1000 });
    const answers = () =>
      eventually(
        () =>
          jsm.streams.info("FACTS").then(
            () => true,
            () => false,
          ),
        { what: "the broker" },
      );
    const copy = `${world.nats.dir}.copy`;
    await stopBeating();
    await world.nats.stop();
    cpSync(world.nats.dir, copy, { recursive: true });
    await world.nats.start();
    await answers();
    startBeating();
    await world.publish(sent);
    await settle(world, service);
    await round();
    await stopBeating();
    await world.nats.kill();
    rmSync(world.nats.dir, { recursive: true });
    cpSync(copy, world.nats.dir, { recursive: true });
    rmSync(copy, { recursive: true });
    await world.nats.start();
    await answers();
    startBeating();

    // Somebody comes and goes, under sequences that others had.
    const gone = uuidv7();
    const life = [
      emit.userFact("created", gone, 1, { time: new Date(), revision: 1 }),
      emit.userFact("erased", gone, 2, { time: new Date() }),
    ];
    await world.publish(life);
    // What its outbox has, the relay sends again, from wherever it was.
    await world.publish(sent.slice(n / 2).toReversed(), { again: true });
    await settle(world, service);
    const erasure = { as: user, body: { userId: gone, version: 2 } };
    await eventually(
      async () => (await service.call("POST", "/internal/erasures", erasure)).body.state === "complete",
      { what: "the erasure" },
    );
    await jsm.streams.purge("FACTS", { filter: `facts.*.*.${gone}` });
    // Until the stream is longer than it ever was, and then some.
    await world.publish(Array.from({ length: 600 }, (_, i) => one(`t:${name}:later:${i}`)));
    await settle(world, service);
    expect(await round()).toMatchObject({ drift: 0 });
    expect(await round()).toMatchObject({ drift: 0 });
    expect(await counted(name)).toBe(n + 600);
    expect(await counted("created")).toBe(signups + 1);
    expect(mended()).toBe(before);
  });
});
