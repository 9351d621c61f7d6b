import { setTimeout as sleep } from "node:timers/promises";
import {
  loadConfig,
  loadKeyring,
  metrics,
  observeBroker,
  runProcess,
  shareActivity,
  superviseWorker,
  type Worker,
  watchTask,
} from "@quartet/service";
import { configSchema } from "./config.ts";
import { createFactAudit, runFactAudit } from "./events/audit.ts";
import { connectBroker } from "./events/nats.ts";
import { hasPassedPerson, lastOfSoon, progress } from "./events/progress.ts";
import { createFactProjector, type FactStore } from "./events/projector.ts";
import { createFactPublisher } from "./events/publisher.ts";
import { createRebuilds } from "./events/rebuild.ts";
import { createApp } from "./http/app.ts";
import { createFreshen } from "./http/freshness.ts";
import { lastFinding } from "./store/audits.ts";
import { createClickHouse } from "./store/client.ts";
import { createAnonymiser, erasedAmong, recordErased } from "./store/erasure.ts";
import { insertFacts } from "./store/facts.ts";
import { observeClickHouse } from "./store/figures.ts";
import { migrate } from "./store/migrations.ts";
import { isRebuilding, NEXT } from "./store/rebuild.ts";
import { writeWatermark } from "./store/watermarks.ts";

const SWEEP_EVERY_MS = 300_000;
const LOOK_EVERY_MS = 30_000;

const config = loadConfig(configSchema);
const keyring = loadKeyring("analytics", config);
const has = (role: "api" | "projector") => config.ROLE === "all" || config.ROLE === role;

await runProcess({
  name: "analytics",
  config,
  start: ({ logger }) => {
    const clickhouse = createClickHouse({
      url: config.CLICKHOUSE_URL,
      timeoutMs: 1500,
      lanes: { small: config.QUERY_CONCURRENCY, heavy: config.HEAVY_QUERY_CONCURRENCY },
      maxMemoryBytes: config.QUERY_MEMORY_MIB * 1024 * 1024,
    });
    const broker = connectBroker(config.NATS_URL, logger);
    observeClickHouse(metrics, clickhouse);
    observeBroker(metrics, broker);
    const endSharing = shareActivity("analytics", config.ROLE, broker);
    const anonymiser = createAnonymiser(clickhouse);
    const workers: Worker[] = [];
    const supervise = (name: string, work: (signal: AbortSignal) => Promise<void>) =>
      workers.push(superviseWorker(name, work, { logger }));

    const watch = watchTask("migrations", { logger });
    let migrated = false;
    let wake: () => void = () => {};
    clickhouse.onMissingSchema(() => {
      migrated = false;
      wake();
    });
    // Runs again whenever a table is found missing: a wiped store gets its tables back.
    supervise("migrations", async (signal) => {
      while (!signal.aborted) {
        const pause = new AbortController();
        wake = () => pause.abort();
        try {
          await migrate(clickhouse);
          if (!migrated) logger.info("schema is up to date");
          migrated = true;
          watch.ok();
        } catch (error) {
          watch.failed(error);
        }
        const wait = migrated ? LOOK_EVERY_MS : 300;
        await sleep(wait, undefined, { signal: AbortSignal.any([signal, pause.signal]) }).catch(() => {});
        if (pause.signal.aborted) await sleep(100);
      }
    });

    const audit = createFactAudit(clickhouse, broker, { logger });
    const store: FactStore = {
      async insert(facts) {
        // Both, from the moment there are two: see followRebuilds.
        if (await isRebuilding(clickhouse)) await insertFacts(clickhouse, facts, NEXT);
        await insertFacts(clickhouse, facts);
      },
      recordErased: (ids) => recordErased(clickhouse, ids),
      erasedAmong: (ids) => erasedAmong(clickhouse, ids),
      anonymise: () => anonymiser.run(),
      writeWatermark: (source, at) => writeWatermark(clickhouse, source, at),
      ping: async () => void (await clickhouse.read("SELECT 1 FROM facts LIMIT 0")),
    };
    const rebuilds = createRebuilds({ clickhouse, broker, audit, natsUrl: config.NATS_URL, store, logger });
    if (has("projector")) {
      const projector = createFactProjector(config.NATS_URL, store, { logger, metrics });
      supervise("projector", (signal) => projector.run(signal));
      supervise("erasure-sweep", (signal) =>
        anonymiser.sweep(signal, SWEEP_EVERY_MS, watchTask("erasure-sweep", { logger })),
      );
      supervise("rebuild", (signal) => rebuilds.follow(signal));
      if (config.AUDIT_INTERVAL_MS > 0) {
        const recent = async () => {
          const found = await lastFinding(clickhouse);
          return found ? new Date(found.checkedAt) : undefined;
        };
        supervise("audit", (signal) =>
          runFactAudit(audit, recent, { everyMs: config.AUDIT_INTERVAL_MS, logger, signal }),
        );
      }
    }

    const publisher = createFactPublisher(broker);
    const app = has("api")
      ? createApp({
          logger,
          keyring,
          clickhouse,
          freshen: createFreshen({ clickhouse, reached: () => progress(broker), maxWaiting: config.MAX_WAITING }),
          publish: publisher.publish,
          hasPassedPerson: (userId) => hasPassedPerson(broker, userId),
          sealPerson: async (userId) => audit.sealUpto(await lastOfSoon(broker, userId)),
          backups: config,
          audit,
          rebuilds,
          anonymise: () => anonymiser.run(),
          progress: async () => (broker.up ? progress(broker) : undefined),
          brokerAnswers: () => broker.answers(),
        })
      : undefined;
    return {
      ...(app ? { app } : {}),
      workers,
      ready: async () => {
        if (!migrated) throw new Error("the tables are not there yet");
        await clickhouse.query("SELECT 1 FROM facts LIMIT 0");
      },
      close: async () => {
        publisher.close();
        endSharing();
        await broker.close();
        await clickhouse.close();
      },
    };
  },
});
