import {
  createDependency,
  createPeer,
  every,
  loadConfig,
  loadKeyring,
  metrics,
  runProcess,
  shareActivity,
  superviseWorker,
  type Worker,
} from "@quartet/service";
import { configSchema } from "./config.ts";
import { createSessionProjector } from "./events/projector.ts";
import { connectBroker, createRebuilds } from "./events/rebuild.ts";
import { createSessionRelay, personsOutbox } from "./events/relay.ts";
import { createApp } from "./http/app.ts";
import { createFreshen } from "./http/freshness.ts";
import { observeRedis } from "./store/figures.ts";
import { createProfiles } from "./store/profiles.ts";
import { connectRedis, isRedisFault } from "./store/redis.ts";
import { createRefill } from "./store/refill.ts";
import { createSessions } from "./store/sessions.ts";
import { redisTarget } from "./store/target.ts";
import { OUTBOX } from "./store/templates.ts";

const SWEEP_EVERY_MS = 250;
const SWEEP_BATCH = 500;
const REPORT_EVERY_MS = 1000;

const config = loadConfig(configSchema);
const keyring = loadKeyring("session", config);
const has = (role: "api" | "relay" | "projector") => config.ROLE === "all" || config.ROLE === role;

await runProcess({
  name: "session",
  config,
  start: ({ logger }) => {
    const complain = (err: Error) => logger.debug({ err }, "Redis connection lost");
    // Log-in, introspection and revocation, the reads, and the audit: each with a connection and a breaker of its own, so that none waits behind another.
    const redis = createDependency("redis", { timeoutMs: 1000, isFault: isRedisFault });
    const front = connectRedis(config.REDIS_URL, 950, complain);
    const reads = createDependency("redis-reads", { timeoutMs: 1000, isFault: isRedisFault });
    const reader = connectRedis(config.REDIS_URL, 950, complain);
    const audits = createDependency("redis-audit", { timeoutMs: 60_000, isFault: isRedisFault });
    const auditor = connectRedis(config.REDIS_URL, 10_000, complain);
    const limits = {
      ttlMs: config.SESSION_TTL_SECONDS * 1000,
      maxMs: config.SESSION_MAX_SECONDS * 1000,
      perUser: config.SESSIONS_PER_USER,
    };
    const sessions = createSessions(front.run, limits);
    const profiles = createProfiles(reader);
    const user = createPeer({ name: "user", url: config.USER_URL, keyring });

    // The workers have a connection of their own: a long script of theirs may take more than a request has.
    const back = has("relay") || has("projector") ? connectRedis(config.REDIS_URL, 10_000, complain) : undefined;
    const connections = [front, reader, auditor, ...(back ? [back] : [])];
    observeRedis(
      metrics,
      redis,
      connections.map((connection) => connection.redis),
    );
    const workers: Worker[] = [];
    const supervise = (name: string, work: (signal: AbortSignal) => Promise<void>) =>
      workers.push(superviseWorker(name, work, { logger }));
    const repeat = (task: string, ms: number, work: () => Promise<unknown>) =>
      supervise(task, every(task, ms, work, { logger, isMistake: (error) => !isRedisFault(error) }));

    const broker = connectBroker(config.NATS_URL, logger);
    const endSharing = shareActivity("session", config.ROLE, broker);
    const ask = createRefill(reader);
    const work = back ? createRefill(back) : ask;
    const rebuilds = createRebuilds({
      ask,
      work,
      broker,
      natsUrl: config.NATS_URL,
      isFault: isRedisFault,
      logger,
    });
    if (back && has("projector")) {
      supervise("rebuild", (signal) => rebuilds.follow(signal));
      const copies = createProfiles(back);
      const projector = createSessionProjector(
        config.NATS_URL,
        {
          apply: copies.apply,
          moveWatermark: copies.moveWatermark,
          isFault: isRedisFault,
          ping: async () => void (await back.redis.ping()),
        },
        { logger, metrics },
      );
      supervise("projector", (signal) => projector.run(signal));
      repeat("projector-report", REPORT_EVERY_MS, () => copies.report("projector", projector.status()));
    }
    if (back && has("relay")) {
      const relay = createSessionRelay(
        {
          redis: redisTarget(config.REDIS_URL),
          natsUrl: config.NATS_URL,
          prefix: OUTBOX,
          retentionMs: config.OUTBOX_RETENTION_SECONDS * 1000,
        },
        { logger, metrics },
      );
      const swept = createSessions(back.run, limits);
      supervise("relay", (signal) => relay.run(signal));
      repeat("sweeper", SWEEP_EVERY_MS, async () => {
        while ((await swept.sweep(SWEEP_BATCH)) === SWEEP_BATCH);
      });
      const figures = createProfiles(back);
      repeat("relay-report", REPORT_EVERY_MS, async () => {
        const status = relay.status();
        if (status.active) await figures.report("relay", status);
      });
    }

    const app = has("api")
      ? createApp({
          logger,
          redis,
          reads,
          audits,
          sessions,
          shown: createSessions(reader.run, limits),
          profiles,
          audited: createProfiles(auditor),
          freshen: createFreshen(reads, profiles, config.MAX_WAITING),
          rebuilds,
          user,
          keyring,
          outbox: personsOutbox(reader.redis, OUTBOX),
        })
      : undefined;
    return {
      ...(app ? { app } : {}),
      workers,
      ready: async () => void (await redis.run(() => front.redis.ping())),
      close: async () => {
        for (const dependency of [redis, reads, audits]) dependency.close();
        endSharing();
        await broker.close();
        for (const connection of connections) connection.close();
        await user.close();
      },
    };
  },
});
