import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { kill, revive } from "@quartet/cli/control";
import { catalogue, type MetricDefinition } from "@quartet/service";
import { Redis } from "ioredis";
import { connect, type NatsConnection } from "nats";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Client, eventually, logIn, type Person, signUp } from "../lib/client.ts";
import { forget, type Launched, launch } from "../lib/launch.ts";
import { type Collector, type ReceivedSpan, startCollector } from "./collector.ts";
import { startLoad } from "./load.ts";
import { findPrometheus, type Prometheus, type Sample, startPrometheus } from "./prometheus.ts";
import { dashboardQueries, ruleFiles, selectors, shortened } from "./sources.ts";

const tools = findPrometheus();
const elsewhere = process.env.QUARTET_URL !== undefined && process.env.QUARTET_TEST_HOME === undefined;

/** A whole system of its own, with an exporter of traces that points at the collector, under load. */
describe.skipIf(elsewhere)("a system that is watched", () => {
  let collector: Collector;
  let system: Launched;
  let client: Client;
  let load: ReturnType<typeof startLoad>;
  let prometheus: Prometheus;

  beforeAll(async () => {
    collector = await startCollector();
    system = await launch({
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "300", AUDIT_INTERVAL_MS: "2000" },
    });
    client = new Client(system.url, system.operatorToken);
    load = startLoad(client);
    if (!tools) return;
    const { services } = JSON.parse(readFileSync(join(system.home, "run.json"), "utf8"));
    const targets = Object.entries<{ adminPort: number }>(services).map(([name, { adminPort }]) => [
      name,
      `127.0.0.1:${adminPort}`,
    ]);
    const rules = Object.entries(ruleFiles()).map(([name, { text }]) => [`${name}.rules`, shortened(text)]);
    prometheus = await startPrometheus(tools, Object.fromEntries(targets), Object.fromEntries(rules));
  });
  afterAll(async () => {
    await load?.stop();
    await prometheus?.stop();
    if (system) {
      expect(await system.stop(), system.output()).toBe(0);
      forget(system.home);
    }
    collector?.close();
  });

  const searchable = (person: Person) =>
    eventually("they are found", async () => {
      const found = await client.get(`/v1/search?q=${person.handle}`, { after: person.created });
      return found.status === 200 && found.body.hits[0]?.id === person.id;
    });
  const log = (service: string) => readFileSync(join(system.home, "logs", `${service}.log`), "utf8");

  describe("traces", () => {
    const start = () => ({ traceId: randomBytes(16).toString("hex"), caller: randomBytes(8).toString("hex") });
    const find = (spans: ReceivedSpan[], service: string, name: string | RegExp) =>
      spans.find((s) => s.service === service && (typeof name === "string" ? s.name === name : name.test(s.name)));

    /** Every span's parent has arrived too, up to the caller's. */
    function complete(spans: ReceivedSpan[], caller: string): boolean {
      const ids = new Set([caller, ...spans.map((span) => span.spanId)]);
      return spans.every((span) => ids.has(span.parentSpanId));
    }

    it("one trace goes from the HTTP write through WAL and JetStream into every store", async () => {
      const { traceId, caller } = start();
      const person = await signUp(client, {}, { traceparent: `00-${traceId}-${caller}-01` });
      await searchable(person);

      const wanted: [service: string, name: string, kind: number, attributes: object][] = [
        ["gateway", "POST /v1/users", 2, { "http.response.status_code": 201 }],
        ["gateway", "POST user", 3, { "peer.service": "user" }],
        ["user", "POST /v1/users", 2, { "http.route": "/v1/users" }],
        ["user", "postgres", 3, { "peer.service": "postgres" }],
        ["user", "publish USERS", 4, { "messaging.system": "nats", "messaging.destination.name": "USERS" }],
        ["user", "publish FACTS", 4, { "messaging.destination.name": "FACTS" }],
        ["search", "apply search", 5, { "db.system.name": "elasticsearch", "messaging.destination.name": "USERS" }],
        ["session", "apply session", 5, { "db.system.name": "redis", "messaging.destination.name": "USERS" }],
        ["analytics", "apply analytics", 5, { "db.system.name": "clickhouse", "messaging.destination.name": "FACTS" }],
      ];
      const spans = await eventually("the whole trace", async () => {
        const now = collector.of(traceId);
        return wanted.every(([service, name]) => find(now, service, name)) && complete(now, caller) && now;
      });
      for (const [service, name, kind, attributes] of wanted) {
        const span = find(spans, service, name)!;
        expect([span.name, Number(span.kind)]).toEqual([name, kind]);
        for (const [key, value] of Object.entries(attributes)) expect(String(span.attributes[key])).toBe(String(value));
      }

      // Each projector's span is linked with the batch it was in, that one with the write, and below it is the call to the store.
      for (const service of ["search", "session", "analytics"]) {
        const [link] = find(spans, service, `apply ${service}`)!.links;
        const batch = await eventually("its batch", async () => collector.spans.find((s) => s.spanId === link?.spanId));
        expect(batch.name).toBe(`apply batch ${service}`);
        expect(batch.links.map((l) => l.traceId)).toContain(traceId);
      }
      // On the stream the trace is in the envelope and in the header.
      const { header, event } = await lastMessage(system.home, "USERS", `users.${person.id}`);
      expect(event.traceparent).toBe(header);
      expect(header.split("-")[1]).toBe(traceId);
      // The logs of the write carry its trace id.
      for (const service of ["gateway", "user"]) {
        const line = log(service)
          .split("\n")
          .find((l) => l.includes(traceId));
        expect(JSON.parse(line ?? "{}")).toMatchObject({ trace_id: traceId, msg: "request", method: "POST" });
      }
    });

    it("a log-in's event goes from Redis to Analytics in the trace of the log-in", async () => {
      const person = await signUp(client);
      const { traceId, caller } = start();
      await logIn(client, person, undefined, { traceparent: `00-${traceId}-${caller}-01` });
      await eventually("the trace of the log-in", async () => {
        const spans = collector.of(traceId);
        const wanted = [
          ["gateway", "POST /v1/sessions"],
          ["user", "POST /internal/credentials/verify"],
          ["session", "redis"],
          ["session", "publish FACTS"],
          ["analytics", "apply analytics"],
        ] as const;
        return wanted.every(([service, name]) => find(spans, service, name)) && complete(spans, caller);
      });
    });

    it("what is not sampled is not recorded, and still logged with its id", async () => {
      const { traceId, caller } = start();
      await signUp(client, {}, { traceparent: `00-${traceId}-${caller}-00` });
      const { traceId: later, caller: by } = start();
      const person = await signUp(client, {}, { traceparent: `00-${later}-${by}-01` });
      await eventually("a later trace", async () => find(collector.of(later), "search", "apply search"));
      expect(person.id).toBeTruthy();
      expect(collector.of(traceId)).toEqual([]);
      expect(log("user")).toContain(traceId);
    });
  });

  describe.skipIf(!tools)("figures", () => {
    const number = (sample: Sample) => Number(sample.value[1]);

    it("every metric of the catalogue is there, in every service that should have it", async () => {
      const wanted = (Object.entries(catalogue) as [string, MetricDefinition][])
        .filter(([, { absent }]) => !absent)
        .flatMap(([name, { type, in: services }]) =>
          services.map((job) => `${name}${type === "histogram" ? "_count" : ""}{job="${job}"}`),
        );
      for (const expr of wanted) {
        await eventually(expr, async () => (await prometheus.query(expr)).length > 0);
      }
    });

    it("every panel of every dashboard has data of the right shape, every mark a query that works", async () => {
      const { panels, marks } = dashboardQueries();
      expect(panels.length).toBeGreaterThan(100);
      for (const { dashboard, panel, expr, legend } of panels) {
        const samples = await eventually(`data for ${dashboard}, ${panel}: ${expr}`, async () => {
          const all = await prometheus.query(expr);
          return all.some((sample) => Number.isFinite(number(sample))) && all;
        });
        for (const [, label = ""] of legend.matchAll(/\{\{(\w+)\}\}/g)) {
          for (const { metric } of samples) expect(metric[label], `${dashboard}, ${panel}: ${label}`).toBeTruthy();
        }
      }
      const names = await prometheus.names();
      for (const { expr } of marks) {
        await prometheus.query(expr);
        for (const { name } of selectors(expr)) expect(names).toContain(name);
      }
    });

    it("every alert looks at figures that are there, and can be evaluated", async () => {
      for (const [file, { rules }] of Object.entries(ruleFiles())) {
        for (const { name, selector } of rules.flatMap((rule) => selectors(rule.expr))) {
          if (name.startsWith("kubelet_")) continue; // there is none here
          await eventually(`${file}: ${selector}`, async () => (await prometheus.query(selector)).length > 0);
          expect(name).toBeTruthy();
        }
      }
      const rules = await prometheus.rules();
      expect(rules.filter((rule) => rule.health !== "ok")).toEqual([]);
    });
  });

  describe.skipIf(!tools)("alerts under faults", () => {
    type Wanted = Record<string, string>;
    const fires = (wanted: Wanted) =>
      eventually(
        `${JSON.stringify(wanted)} fires`,
        async () => matching(await prometheus.firing(), wanted).length > 0,
        60_000,
      );
    const clears = (wanted: Wanted) =>
      eventually(
        `${JSON.stringify(wanted)} clears`,
        async () => {
          const left = matching(await prometheus.firing(), wanted);
          if (left.length > 0) throw new Error(JSON.stringify(left));
          return true;
        },
        90_000,
      );
    const matching = (alerts: Wanted[], wanted: Wanted) =>
      alerts.filter((labels) => Object.entries(wanted).every(([key, value]) => labels[key] === value));

    it("a message that nobody can apply: dead letters", async () => {
      const person = await signUp(client);
      await publish(system.home, `users.${person.id}`, '{"type":"quartet.nonsense.v1"}');
      await fires({ alertname: "QuartetDeadLetters", consumer: "search" });
      await fires({ alertname: "QuartetDeadLetters", consumer: "session" });
      const token = system.operatorToken;
      const { body } = await client.get("/v1/admin/dead", { token });
      for (const { seq } of body.deadLetters) await client.delete(`/v1/admin/dead/${seq}`, { token });
      // That it clears is seen at the end, together with the rest.
    });

    it("a document that somebody altered by hand: drift, until the audit has nothing to mend any more", async () => {
      const person = await signUp(client);
      await searchable(person);
      const { engines } = runFile(system.home);
      const { admin } = credentials(system.home).elasticsearch!;
      const url = `http://127.0.0.1:${engines.elasticsearch!.port}/users/_update/${person.id}?refresh=true`;
      const answer = await fetch(url, {
        method: "POST",
        headers: { authorization: `Basic ${btoa(`admin:${admin}`)}`, "content-type": "application/json" },
        body: JSON.stringify({ doc: { bio: "forged" } }),
      });
      expect(answer.status).toBe(200);
      await fires({ alertname: "QuartetAuditDrift", store: "search" });
    });

    it("WAL that may not be kept as long as it should: the slot is in danger", async () => {
      await inPostgres(system.home, "ALTER SYSTEM SET max_slot_wal_keep_size = '256MB'");
      await inPostgres(system.home, "SELECT pg_reload_conf()");
      await fires({ alertname: "QuartetSlotRetainsWal", severity: "warning" });
      await inPostgres(system.home, "ALTER SYSTEM RESET max_slot_wal_keep_size");
      await inPostgres(system.home, "SELECT pg_reload_conf()");
    });

    it("a store with hardly any room left: 64 MB that are no service's, and a limit just above", async () => {
      await inRedis(system.home, async (redis) => {
        await redis.setrange("filler", 64 * 1024 * 1024, "x");
        const used = Number(/used_memory:(\d+)/.exec(await redis.info("memory"))![1]);
        await redis.config("SET", "maxmemory", Math.round(used * 1.03));
      });
      await fires({ alertname: "QuartetDiskFilling", store: "redis", severity: "critical" });
      await inRedis(system.home, async (redis) => {
        await redis.config("SET", "maxmemory", "512mb");
        await redis.del("filler");
      });
    });

    it("ClickHouse gone: its store, its read model's freshness and its projector, and nobody else's", async () => {
      await kill(system.home, "clickhouse", { hold: true });
      await fires({ alertname: "QuartetStoreDown", store: "clickhouse" });
      // Somebody asked to be forgotten fifteen minutes ago, as far as the clock of the store goes; without ClickHouse it cannot be finished.
      const { id } = await signUp(client);
      const { body } = await client.delete(`/v1/users/${id}`, { token: system.operatorToken });
      const before = "UPDATE erasures SET requested_at = requested_at - interval '16 min' WHERE id = $1";
      await inPostgres(system.home, before, [body.erasureId]);
      await fires({ alertname: "QuartetErasureOverdue" });
      await fires({ alertname: "QuartetProjectorStopped", consumer: "analytics", for: "store" });
      await fires({ alertname: "QuartetStalenessBurn", consumer: "analytics", severity: "critical" });
      await eventually("no other store or projector is complained of", async () => {
        const firing = await prometheus.firing();
        const of = (alertname: string, label: string) => matching(firing, { alertname }).map((labels) => labels[label]);
        const complaints = [of("QuartetStoreDown", "store"), of("QuartetProjectorStopped", "consumer")];
        return JSON.stringify(complaints) === '[["clickhouse"],["analytics"]]';
      });
      revive(system.home, "clickhouse");
    });

    it("NATS gone: both relays stop, and say so once", async () => {
      const before = complaints();
      await kill(system.home, "nats", { hold: true });
      await fires({ alertname: "QuartetRelayStopped", source: "user", severity: "critical" });
      await fires({ alertname: "QuartetRelayStopped", source: "session", severity: "critical" });
      await fires({ alertname: "QuartetStoreDown", store: "nats" });
      // It has tried several times by now.
      for (const [service, count] of Object.entries(complaints()))
        expect(count - before[service]!, service).toBeLessThan(4);
      revive(system.home, "nats");
    });

    it.each([
      "QuartetStoreDown",
      "QuartetRelayStopped",
      "QuartetProjectorStopped",
      "QuartetDeadLetters",
      "QuartetAuditDrift",
      "QuartetSlotRetainsWal",
      "QuartetDiskFilling",
      "QuartetErasureOverdue",
    ])("everything is back: %s clears", async (alertname) => void (await clears({ alertname })));

    it("everything is back: the freshness objective is kept again, and what is written is found", async () => {
      await clears({ alertname: "QuartetStalenessBurn", severity: "critical" });
      const person = await signUp(client);
      await searchable(person);
    });

    const complaints = (): Record<string, number> =>
      Object.fromEntries(
        ["user", "session"].map((service) => {
          const lines = log(service).split("\n");
          return [
            service,
            lines.filter((line) => line.includes("relay starts over") && !line.includes('"debug"')).length,
          ];
        }),
      );
  });
});

const readJson = (home: string, name: string) => JSON.parse(readFileSync(join(home, name), "utf8"));
const runFile = (home: string): { engines: Record<string, { port: number }> } => readJson(home, "run.json");
const credentials = (home: string): Record<string, Record<string, string>> => readJson(home, "credentials.json");

/** Runs a statement as the administrator of PostgreSQL. */
async function inPostgres(home: string, text: string, values: unknown[] = []): Promise<void> {
  const sql = new pg.Client({
    host: "127.0.0.1",
    port: runFile(home).engines.postgres!.port,
    user: "postgres",
    password: credentials(home).postgres!.postgres!,
    database: "quartet",
  });
  await sql.connect();
  try {
    await sql.query(text, values);
  } finally {
    await sql.end();
  }
}

/** Does something in Redis as its administrator. */
async function inRedis(home: string, work: (redis: Redis) => Promise<void>): Promise<void> {
  const redis = new Redis({
    host: "127.0.0.1",
    port: runFile(home).engines.redis!.port,
    username: "admin",
    password: credentials(home).redis!.admin!,
  });
  try {
    await work(redis);
  } finally {
    redis.disconnect();
  }
}

/** Does something on NATS as an operator with every right could. */
async function asAdmin<T>(home: string, work: (nc: NatsConnection) => Promise<T>): Promise<T> {
  const nc = await connect({
    servers: `127.0.0.1:${runFile(home).engines.nats!.port}`,
    user: "admin",
    pass: credentials(home).nats!.admin!,
  });
  try {
    return await work(nc);
  } finally {
    await nc.close();
  }
}

async function publish(home: string, subject: string, payload: string): Promise<void> {
  await asAdmin(home, (nc) => nc.jetstream().publish(subject, payload));
}

async function lastMessage(home: string, stream: string, subject: string) {
  return asAdmin(home, async (nc) => {
    const jsm = await nc.jetstreamManager();
    const message = await jsm.streams.getMessage(stream, { last_by_subj: subject });
    return { header: message.header.get("traceparent"), event: message.json<{ traceparent: string }>() };
  });
}
