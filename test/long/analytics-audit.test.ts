import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type ClickHouse, createClickHouse } from "../../services/analytics/src/store/client.ts";
import { migrate } from "../../services/analytics/src/store/migrations.ts";
import { createWorld, type World } from "../../services/analytics/test/world.ts";

const FACTS = Number(process.env.QUARTET_FACTS ?? 5_000_000);
/** The old space that the charts give the service. */
const HEAP_MB = 160;
const BATCH = 500_000;
const WITHIN_MS = 30 * 60_000;

let world: World;
let clickhouse: ClickHouse;
let beat: NodeJS.Timeout;

beforeAll(async () => {
  world = await createWorld();
  await world.makeStreams();
  clickhouse = createClickHouse({
    url: world.clickhouse.urlFor("analytics"),
    timeoutMs: 10_000,
    lanes: { small: 1, heavy: 1 },
    maxMemoryBytes: 384 * 1024 * 1024,
  });
  await migrate(clickhouse);
  beat = setInterval(() => void world.heartbeat(new Date()).catch(() => {}), 500);
});
afterAll(async () => {
  clearInterval(beat);
  await clickhouse?.close();
  await world?.dispose();
});

/** Rows of 200,000 people, as a history of another system would be put in by hand. Sequences go on from `first`, or are all the same. */
const fill = (from: number, count: number, sequence = "number + 1") =>
  clickhouse.execute(
    `INSERT INTO facts (id, kind, name, user_id, occurred_at, reason, duration, properties, ver, received_at)
     SELECT reinterpretAsUInt128(sipHash128(number)), 'track', ['visit', 'search', 'message', 'purchase'][number % 4 + 1],
            reinterpretAsUUID(sipHash128(number % 200000)), toDateTime64(1700000000 + number % 63072000, 3, 'UTC'), '', 0,
            map('page', concat('"p', toString(number % 50), '"')),
            bitOr(bitShiftLeft(toUInt128(bitNot(toUInt64(1600000000000000000))), 64), toUInt128(bitNot(toUInt64(${sequence})))),
            now64(3)
       FROM numbers(${from}, ${count})`,
    {},
    { timeoutMs: 60_000 },
  );

it(`audits ${FACTS} facts within a heap of ${HEAP_MB} MB, and tells when it cannot`, {
  timeout: WITHIN_MS,
}, async () => {
  for (let i = 0; i < FACTS; i += BATCH) await fill(i, Math.min(BATCH, FACTS - i));
  const service = await world.start({ NODE_OPTIONS: `--max-old-space-size=${HEAP_MB}`, LOG_LEVEL: "info" });
  const began = performance.now();
  let peak = 0;
  const figure = async (name: string): Promise<number | undefined> => {
    const text = await (await fetch(`${service.adminUrl}/metrics`)).text();
    peak = Math.max(peak, Number(/^nodejs_heap_size_used_bytes (\S+)/m.exec(text)?.[1]));
    const value = new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "m").exec(text)?.[1];
    return value === undefined ? undefined : Number(value);
  };
  const tell = (what: string) =>
    console.log(
      `${Math.round((performance.now() - began) / 1000)} s: ${what}; heap at most ${Math.round(peak / 2 ** 20)} MB`,
    );
  const audit = async () => {
    const [found] = (await service.call("GET", "/internal/audit", { as: { kind: "service", name: "gateway" } })).body
      .audits;
    return found as { compared: number; drift: number; startedAt: string } | undefined;
  };
  /** Looks twice a second until `look` says yes; the process has to be there all the time. */
  const until = async (look: () => Promise<boolean>): Promise<void> => {
    while (!(await look())) await sleep(500);
  };
  const whole = (since: number) => async () => {
    await figure("x");
    const found = await audit();
    return found !== undefined && Date.parse(found.startedAt) >= since && found.compared === FACTS && found.drift === 0;
  };

  await until(whole(0));
  tell("all taken over, and compared");
  // Some change: all is compared again.
  await clickhouse.execute(
    "ALTER TABLE facts UPDATE properties = map('page', '\"forged\"') WHERE id IN (SELECT reinterpretAsUInt128(sipHash128(number)) FROM numbers(3))",
    {},
    { timeoutMs: 60_000, settings: { mutations_sync: "1" } },
  );
  await until(async () => ((await figure("quartet_audit_drift")) ?? 0) > 0);
  tell("what was changed is found");

  // More in one range than a look can hold: told, and nothing dies of it.
  await fill(FACTS, 50_000, "7");
  await until(async () => (await figure("quartet_audit_unfinished")) === 1);
  tell("more than a look can hold is told");
  await clickhouse.execute(
    `ALTER TABLE facts DELETE WHERE id IN (SELECT reinterpretAsUInt128(sipHash128(number)) FROM numbers(${FACTS}, 50000))`,
    {},
    { timeoutMs: 60_000, settings: { mutations_sync: "1" } },
  );
  await until(async () => (await figure("quartet_audit_unfinished")) === 0);
  tell("and over when it is over");
  expect(await service.ready()).toBe(true);
});
