import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect, type JetStreamManager, type NatsConnection } from "nats";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { batches, type importPeople, post } from "../../chaos/bulk.ts";
import { Client, eventually } from "../lib/client.ts";
import { commandOn } from "../lib/commands.ts";
import { forget, type Launched, launch } from "../lib/launch.ts";

/** FACTS gets 8.8 MB of it and USERS 7.5 MB. */
const STORE = "24MB";
const EVENTS = 20_000;
const EVER = "from=1970-01-01&to=2100-01-01";
const MONTHS = `${EVER}&interval=month`;

let system: Launched;
let client: Client;
let nats: NatsConnection;
let jsm: JetStreamManager;

async function start(store: string): Promise<void> {
  system = await launch({ env: { NATS_STORE_BYTES: store, RATE_LIMITS: "off" } });
  client = new Client(system.url, system.operatorToken);
  const { nats: passwords } = JSON.parse(readFileSync(join(system.home, "credentials.json"), "utf8"));
  nats = await connect({ servers: `127.0.0.1:${runFile().engines.nats.port}`, user: "admin", pass: passwords.admin });
  jsm = await nats.jetstreamManager();
}
const runFile = () => JSON.parse(readFileSync(join(system.home, "run.json"), "utf8"));

beforeAll(() => start(STORE));
afterAll(async () => {
  await nats?.close();
  await system?.stop();
  if (system) forget(system.home);
});

const target = () => ({ url: system.url, operatorToken: system.operatorToken }) as Parameters<typeof importPeople>[0];
const figure = async (service: string, pattern: RegExp): Promise<number | undefined> => {
  const page = await fetch(`http://127.0.0.1:${runFile().services[service].adminPort}/metrics`);
  const [, value] = pattern.exec(await page.text()) ?? [];
  return value === undefined ? undefined : Number(value);
};
/** For how long the relay of a service owes a stream what it did not take; 0: it owes nothing. */
const owed = (source: string, stream: string) =>
  figure(source, new RegExp(`^quartet_outbox_owed_seconds\\{source="${source}",stream="${stream}"\\} (\\S+)$`, "m"));
const purged = () => figure("user", /^quartet_stream_purged_total\{stream="FACTS"\} (\d+)$/m);
const track = (events: object[]) => client.post("/v1/track", { events }, { token: client.operatorToken });
const totalOf = async (name: string) => (await client.get(`/v1/analytics/events?name=${name}&${MONTHS}`)).body.total;

async function allClean(): Promise<void> {
  for (const [source, stream] of [
    ["user", "USERS"],
    ["user", "FACTS"],
    ["session", "FACTS"],
  ] as const) {
    await eventually(`${source} owes ${stream} nothing`, async () => (await owed(source, stream)) === 0, 120_000);
  }
  const audit = await commandOn(system, "audit", "--timeout", "120").done;
  expect(audit.code, audit.output).toBe(0);
}

describe("full streams", () => {
  it("more events than FACTS has room for: it forgets what Analytics has sealed, and everything counts once", async () => {
    const { config } = await jsm.streams.info("FACTS");
    const event = (i: number) => ({ name: "long.fill", id: `fill-${i}`, properties: { n: i, fill: "x".repeat(500) } });
    await batches(EVENTS, async (from, to) => {
      // Refused when it is too much at a time, and taken again by itself.
      await post(target(), "/v1/track", { events: Array.from({ length: to - from }, (_, i) => event(from + i)) });
    });
    const bytes = JSON.stringify(event(0)).length * EVENTS;
    expect(bytes).toBeGreaterThan(config.max_bytes);
    const { token } = await track([event(0)]);
    await client.get("/v1/analytics/sessions", { after: token });
    expect(await totalOf("long.fill")).toBe(EVENTS);
    expect(await purged()).toBeGreaterThan(0);
    expect((await jsm.streams.info("FACTS")).state.messages).toBeLessThan(EVENTS);
    await allClean();

    // A rebuild has only the rest of them from FACTS.
    const rebuild = await commandOn(system, "rebuild", "analytics").done;
    expect(rebuild.code, rebuild.output).toBe(0);
    expect(await totalOf("long.fill")).toBe(EVENTS);
    await allClean();
  });
});
