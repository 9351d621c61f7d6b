import { setTimeout as sleep } from "node:timers/promises";
import {
  createPeer,
  every,
  loadConfig,
  loadKeyring,
  metrics,
  runProcess,
  shareActivity,
  superviseWorker,
  type Worker,
  watchTask,
} from "@quartet/service";
import { configSchema } from "./config.ts";
import { runAudit } from "./events/audit.ts";
import { createDeadLetterOffice, NoSuchLetter } from "./events/dead.ts";
import { observeStreams } from "./events/figures.ts";
import { connectBroker } from "./events/nats.ts";
import { createRegistryTeller, learnWhoWasErased } from "./events/registry.ts";
import { appendEvents, createUserRelay, outboxTables, SLOT } from "./events/relay.ts";
import { createRestoreGate } from "./events/restore-gate.ts";
import { makeRoom } from "./events/room.ts";
import { runSaga } from "./events/saga.ts";
import { keepStreams, streamCounts } from "./events/streams.ts";
import { createApp } from "./http/app.ts";
import { PasswordHasher } from "./http/passwords.ts";
import { Database } from "./store/database.ts";
import { observeDatabase } from "./store/figures.ts";
import { forgetOldAnswers } from "./store/idempotency.ts";
import { migrate, ownMigrations } from "./store/migrate.ts";
import { reemitSome, repairUsers, requestReemission } from "./store/repair.ts";
import { reportWorker } from "./store/status.ts";
import { Users } from "./store/users.ts";

const config = loadConfig(configSchema);
const keyring = loadKeyring("user", config);
const has = (role: "api" | "relay") => config.ROLE === "all" || config.ROLE === role;

await runProcess({
  name: "user",
  config,
  start: ({ logger }) => {
    const db = new Database({ url: config.POSTGRES_URL, logger });
    const broker = connectBroker(config.NATS_URL, logger);
    const peer = (name: "session" | "analytics" | "search", url: string) =>
      createPeer({ name, url, keyring, connections: 16 });
    const peers = {
      session: peer("session", config.SESSION_URL),
      analytics: peer("analytics", config.ANALYTICS_URL),
      search: peer("search", config.SEARCH_URL),
    };
    observeDatabase(metrics, db, SLOT);
    observeStreams(metrics, broker);
    const endSharing = shareActivity("user", config.ROLE, broker);
    const workers: Worker[] = [];
    const supervise = (name: string, work: (signal: AbortSignal) => Promise<void>) =>
      workers.push(superviseWorker(name, work, { logger }));
    /** A loop that begins when the schema is there. */
    const repeat = (task: string, ms: number, work: () => Promise<unknown>) =>
      supervise(task, every(task, ms, work, { logger, when: () => db.ready }));
    const whenReady = async (signal: AbortSignal): Promise<void> => {
      while (!db.ready && !signal.aborted) await sleep(50, undefined, { signal }).catch(() => {});
    };

    const gate = createRestoreGate(db, { note: has("relay"), logger });
    supervise("restore-watch", async (signal) => {
      await whenReady(signal);
      await gate.watch(signal);
    });

    supervise("migrations", async (signal) => {
      const watch = watchTask("migrations", { logger });
      let told = "";
      while (!db.ready && !signal.aborted) {
        try {
          const taken = await migrate(config.POSTGRES_URL, [...ownMigrations(), outboxTables], signal);
          if (taken.length > 0) logger.info({ taken }, "schema is up to date");
          db.opened();
          watch.ok();
        } catch (error) {
          watch.failed(error);
          // A server that is away says the same for minutes; a schema that cannot be made has to be told, once.
          const reason = (error as Error).message;
          if (reason !== told) logger.warn({ reason }, "the schema has to wait");
          told = reason;
          await sleep(300, undefined, { signal }).catch(() => {});
        }
      }
      await new Promise<void>((done) => {
        if (signal.aborted) done();
        signal.addEventListener("abort", () => done(), { once: true });
      });
    });

    if (has("relay")) {
      const relay = createUserRelay(
        {
          postgresUrl: config.POSTGRES_URL,
          natsUrl: config.NATS_URL,
          retentionDays: config.OUTBOX_RETENTION_DAYS,
          // The outbox keeps days, the users are for ever: say everybody again.
          onStreamLost: async ({ stream, reason }) => {
            if (stream === "USERS") await requestReemission(db, reason);
          },
          // A new connection may be to a server that was promoted.
          beforeSession: gate.pass,
        },
        { logger, metrics },
      );
      const streams = { replicas: config.NATS_REPLICAS, storeBytes: config.NATS_STORE_BYTES };
      supervise("streams", (signal) => keepStreams(broker, streams, logger, signal));
      supervise(
        "stream-room",
        every("stream-room", 2000, () => makeRoom({ broker, analytics: peers.analytics, logger, metrics }), { logger }),
      );
      supervise("relay", (signal) => gate.whileOpen((open) => relay.run(open), signal));
      const registry = { db, broker, analytics: peers.analytics, logger };
      repeat("restore-check", 250, () => learnWhoWasErased(registry));
      repeat("erasure-registry", 200, createRegistryTeller(registry));
      repeat("reemission", 1000, async () => {
        while ((await reemitSome(db, appendEvents)) !== undefined);
      });
      repeat("relay-report", 1000, async () => {
        const status = relay.status();
        if (status.active) await reportWorker(db, "relay", status);
      });
      repeat("forget-answers", 60_000, () => forgetOldAnswers(db));
      supervise("erasures", async (signal) => {
        await whenReady(signal);
        if (!signal.aborted) await runSaga({ db, broker, peers, backups: config, logger, metrics }, signal);
      });
      supervise("audit", async (signal) => {
        await whenReady(signal);
        const { search, session } = peers;
        const intervalMs = config.AUDIT_INTERVAL_MS;
        const options = { db, append: appendEvents, peers: { search, session }, intervalMs, logger, metrics };
        if (!signal.aborted) await runAudit(options, signal);
      });
    }

    const repair = async (request: { id: string; above: number }) =>
      void (await repairUsers(db, appendEvents, [request]));
    const office = createDeadLetterOffice(broker, repair);
    const app = has("api")
      ? createApp({
          logger,
          db,
          users: new Users(db, appendEvents),
          passwords: new PasswordHasher(),
          keyring,
          append: appendEvents,
          backups: config,
          isLearning: () => !gate.open,
          slot: SLOT,
          dead: { ...office, isMissing: (error) => error instanceof NoSuchLetter },
          broker: { up: () => broker.up, answers: () => broker.answers(), streams: () => streamCounts(broker) },
        })
      : undefined;
    return {
      ...(app ? { app } : {}),
      workers,
      ready: async () => {
        await db.run((client) => client.query("SELECT 1"));
        if (!gate.open) throw new Error("this database was restored, and has yet to learn who was erased since");
      },
      close: async () => {
        await Promise.all(Object.values(peers).map((p) => p.close()));
        endSharing();
        await broker.close();
        await db.close();
      },
    };
  },
});
