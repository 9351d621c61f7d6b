import type { RequestListener } from "node:http";
import { startAdmin } from "./admin.ts";
import { type Listening, listen } from "./listen.ts";
import { createLogger, type Logger } from "./logger.ts";
import { startTracing, stopTracing } from "./tracing.ts";
import { UNSAFE, unsafe } from "./unsafe.ts";
import type { Worker } from "./worker.ts";

/** What `start` makes of a process. It must not wait for a store: a process starts with its stores down and is not ready until they are up. */
export interface Running {
  /** The public API; absent for a process that has none (`ROLE=relay`). */
  app?: RequestListener;
  /** Rejects while the process cannot do its work. Asks only its own dependencies. */
  ready: () => Promise<void> | void;
  live?: () => void;
  workers?: Worker[];
  /** Closes pools and connections, after the last request and the last worker. */
  close?: () => Promise<void> | void;
}

export interface ProcessOptions {
  /** The service's name. */
  name: string;
  /** `commonConfig` as it was read. `ADMIN_PORT` absent: `PORT` + 1000, or any free one if `PORT` is 0. */
  config: { HOST: string; PORT: number; ADMIN_PORT?: number | undefined; LOG_LEVEL: string; DRAIN_MS?: number };
  start: (context: { logger: Logger }) => Promise<Running> | Running;
  /** How long requests and workers may take to finish, each. Default 10 s. */
  graceMs?: number;
}

/**
 * Runs a service until SIGTERM or SIGINT. Then: not ready; for `DRAIN_MS` all goes on, but connections end with their answers; no new connections,
 * requests in flight finish, workers stop, pools close, exit 0.
 * An error nobody caught is logged and exit code 1, as is a port that is taken: the supervisor starts the process again.
 */
export async function runProcess(options: ProcessOptions): Promise<void> {
  const { name, config, graceMs = 10_000 } = options;
  const drainMs = config.DRAIN_MS ?? 0;
  const logger = createLogger(name, config.LOG_LEVEL);
  for (const name of unsafe) logger.error({ unsafe: name }, `UNSAFE, by QUARTET_UNSAFE: ${UNSAFE[name]}`);
  const die = (message: string) => (err: unknown) => {
    logger.fatal({ err }, message);
    process.exit(1);
  };
  process.on("unhandledRejection", die("unhandled rejection"));
  process.on("uncaughtException", die("uncaught exception"));

  let phase: "starting" | "running" | "stopping" = "starting";
  let running: Running | undefined;
  let api: Listening | undefined;
  let admin: Listening | undefined;

  const stop = async (signal: string): Promise<void> => {
    if (phase === "stopping") return; // Ctrl-C reaches the whole group, and the supervisor signals again
    phase = "stopping";
    logger.info({ signal }, "stopping");
    setTimeout(() => die("did not stop in time")(undefined), drainMs + graceMs * 2 + 5000).unref();
    if (drainMs > 0) await api?.drain(drainMs);
    await api?.close(graceMs);
    await Promise.race([
      Promise.all(running?.workers?.map((worker) => worker.stop()) ?? []),
      new Promise((done) => setTimeout(done, graceMs).unref()),
    ]);
    await running?.close?.();
    await stopTracing();
    await admin?.close(100);
    logger.info("stopped");
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => void stop(signal).catch(die("stopping failed")));

  try {
    await startTracing(name);
    const ready = (): Promise<void> | void => {
      if (phase !== "running") throw new Error(phase);
      return running?.ready();
    };
    admin = await startAdmin({
      host: config.HOST,
      port: config.ADMIN_PORT ?? (config.PORT === 0 ? 0 : config.PORT + 1000),
      ready,
      live: () => running?.live?.(),
      logger,
    });
    running = await options.start({ logger });
    if (running.app) api = await listen(running.app, { host: config.HOST, port: config.PORT });
    if (phase === "starting") phase = "running";
    logger.info({ url: api?.url, admin: admin.url, node: process.version }, "listening");
  } catch (error) {
    die("could not start")(error);
  }
}
