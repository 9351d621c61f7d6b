import { type ServiceStatus, userIdField, wholeNumber } from "@quartet/contracts";
import {
  addActivity,
  addRebuildRoutes,
  badRequest,
  HttpProblem,
  notFound,
  onlyFor,
  parseBody,
  parseParams,
  parseQuery,
  type Rebuilds,
  remembered,
} from "@quartet/service";
import type { Express } from "express";
import { z } from "zod";
import { shared } from "../shared.ts";
import { similar } from "../store/search.ts";
import { countLiving, erase } from "../store/users.ts";
import type { SearchContext } from "./context.ts";

export interface InternalOptions {
  /** How far the projector is; undefined while that cannot be known. */
  progress(): Promise<{ lag: number; deadLetters: number } | undefined>;
  brokerAnswers(): Promise<boolean>;
  rebuilds: Rebuilds;
}

const person = z.object({ userId: userIdField });
const similarParams = z.object({ limit: wholeNumber(1, 50, 5) });
const erasure = z.strictObject({ userId: userIdField, version: z.number().int().nonnegative() });
const DIGEST_CACHE_MS = 400;
/** A little less than User waits. */
const WALK_MS = 25_000;
const SLOW_MS = 10_000;

/** The calls that only other services of ours make. */
export function addInternalRoutes(app: Express, context: SearchContext, options: InternalOptions): void {
  const { elasticsearch, askFor, client, names, digests, freshen } = context;

  app.get("/internal/similar/:userId", onlyFor("gateway"), async (req, res) => {
    const { userId } = parseParams(person, req);
    const { limit } = parseQuery(similarParams, req);
    await freshen(req, res);
    const found = await askFor(res, (signal) => similar(context, userId, limit, signal));
    if (!found) throw notFound("nobody is known under this id");
    res.json({ similar: found });
  });

  app.post("/internal/erasures", onlyFor("user"), async (req, res) => {
    const { userId, version } = parseBody(erasure, req);
    const done = await elasticsearch.run(() => erase(client, names, userId, version));
    res.json({ state: done ? "complete" : "pending" });
  });

  addRebuildRoutes(app, "search", {
    start: () => elasticsearch.run(() => options.rebuilds.start(), { timeoutMs: SLOW_MS }),
    state: () => elasticsearch.run(() => options.rebuilds.state()),
  });

  // One walk at a time, and over with its deadline: what it has read by then stays read.
  const allDigests = shared(() => elasticsearch.run((signal) => digests.all(signal), { timeoutMs: WALK_MS }), 0);
  const recentDigests = remembered(DIGEST_CACHE_MS, allDigests);
  app.get("/internal/digests", onlyFor("user"), async (req, res) => {
    // An audit must not be answered with what was there before it began.
    res.json(await (req.query.fresh === "true" ? allDigests() : recentDigests()));
  });

  app.get("/internal/digests/:bucket", onlyFor("user"), async (req, res) => {
    const bucket = Number(req.params.bucket);
    if (!Number.isInteger(bucket) || bucket < 0 || bucket > 255) {
      throw badRequest({ path: "bucket", message: "must be 0 to 255" });
    }
    const users = await elasticsearch.run((signal) => digests.bucket(bucket, signal), { timeoutMs: WALK_MS });
    res.json({ users });
  });

  addActivity(app);
  app.get("/internal/status", onlyFor("gateway", "search"), async (_req, res) => {
    const [store, up, progress] = await Promise.all([
      storeStatus(context),
      options.brokerAnswers(),
      options.progress().catch(() => undefined),
    ]);
    res.json({
      store: { up: store.up, ...(store.documents === undefined ? {} : { documents: store.documents }) },
      nats: { up },
      projectors: {
        search: {
          asOf: store.asOf ?? null,
          stalenessSeconds: store.asOf ? Math.max(0, (Date.now() - Date.parse(store.asOf)) / 1000) : null,
          lag: progress?.lag ?? null,
          deadLetters: progress?.deadLetters ?? null,
        },
      },
    } satisfies ServiceStatus);
  });
}

async function storeStatus(
  context: SearchContext,
): Promise<{ up: boolean; documents?: number; asOf?: string | undefined }> {
  const { elasticsearch, client, names } = context;
  try {
    const [documents, asOf] = await elasticsearch.run(() =>
      Promise.all([countLiving(client, names), context.watermark()]),
    );
    return { up: true, documents, asOf };
  } catch (error) {
    if (!(error instanceof HttpProblem)) throw error;
    return { up: false };
  }
}
