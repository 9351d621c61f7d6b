import express from "express";
import { finishApi } from "./api.ts";
import { type Listening, listen } from "./listen.ts";
import type { Logger } from "./logger.ts";
import { collectRuntimeMetrics, metrics } from "./metrics.ts";
import { HttpProblem } from "./problem.ts";

export interface AdminOptions {
  port: number;
  host: string;
  /** Resolves if the process can do its work: asks only its own dependencies. A rejection is 503; so is no answer within two seconds. */
  ready: () => Promise<void> | void;
  /** Throws if the process should be restarted. Asks no store. Absent: alive as long as it answers. */
  live?: () => void;
  logger: Logger;
}

/** The admin port: `/livez`, `/readyz`, `/metrics`. */
export async function startAdmin(options: AdminOptions): Promise<Listening> {
  collectRuntimeMetrics();
  const app = express();
  app.disable("x-powered-by");
  app.get("/livez", (_req, res) => {
    options.live?.();
    res.type("text/plain").send("ok\n");
  });
  app.get("/readyz", async (_req, res) => {
    try {
      await within(2000, options.ready());
    } catch (error) {
      throw new HttpProblem(503, {
        slug: "not-ready",
        title: "Not Ready",
        detail: error instanceof Error ? error.message : "not ready",
        headers: { "Retry-After": "1" },
      });
    }
    res.type("text/plain").send("ok\n");
  });
  app.get("/metrics", async (_req, res) => {
    res.setHeader("Content-Type", metrics.registry.contentType);
    res.end(await metrics.registry.metrics());
  });
  // not-ready is asked about every second and would be a log line each time: the probe tells it
  return listen(finishApi(app, undefined), { host: options.host, port: options.port });
}

async function within(ms: number, work: Promise<void> | void): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  try {
    await Promise.race([
      work,
      new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms))),
    ]);
  } finally {
    clearTimeout(timer);
  }
}
