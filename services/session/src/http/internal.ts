import { type ServiceStatus, userIdField } from "@quartet/contracts";
import {
  addActivity,
  addRebuildRoutes,
  awaitFreshness,
  badRequest,
  type Dependency,
  onlyFor,
  parseBody,
  parseParams,
  type Rebuilds,
  readFreshness,
  remembered,
  setAsOf,
  unauthorized,
} from "@quartet/service";
import type { Express } from "express";
import { z } from "zod";
import type { PersonsOutbox } from "../events/relay.ts";
import type { Profiles } from "../store/profiles.ts";
import type { Sessions } from "../store/sessions.ts";

export interface InternalRoutes {
  redis: Dependency;
  sessions: Sessions;
  profiles: Profiles;
  rebuilds: Rebuilds;
  outbox: PersonsOutbox;
}

const introspection = z.strictObject({ token: z.string().max(4096) });
const erasure = z.strictObject({ userId: userIdField, version: z.number().int().nonnegative() });
const person = z.object({ userId: userIdField });
const DIGEST_CACHE_MS = 2000;

/** The calls that only other services of ours make. */
export function internalRoutes(app: Express, { redis, sessions, profiles, rebuilds, outbox }: InternalRoutes): void {
  app.post("/internal/introspect", onlyFor("gateway"), async (req, res) => {
    const { token } = parseBody(introspection, req);
    const found = await redis.run(() => sessions.introspect(token), { timeoutMs: 650 });
    if (!found) throw unauthorized("the token is not valid");
    res.json(found);
  });

  app.get("/internal/presence/:userId", onlyFor("gateway"), async (req, res) => {
    const { userId } = parseParams(person, req);
    const { waitMs, token } = readFreshness(req);
    if (token) await awaitFreshness(res, { waitMs, check: () => redis.run(() => profiles.sees(token)) });
    setAsOf(res, await redis.run(() => profiles.asOf()));
    const living = await redis.run(() => sessions.list(userId));
    const lastSeenAt =
      living
        .map((s) => s.lastSeenAt)
        .sort()
        .at(-1) ?? null;
    res.json({ activeSessions: living.length, lastSeenAt });
  });

  app.post("/internal/erasures", onlyFor("user"), async (req, res) => {
    const { userId, version } = parseBody(erasure, req);
    const left = await redis.run(() => profiles.erasure(userId, version));
    // They stay until Analytics has counted them: what the broker loses before that is sent again from here.
    const complete = left === 0 && (await redis.run(() => outbox.pending(userId))) === 0;
    res.json({ state: complete ? "complete" : "pending" });
  });

  app.delete("/internal/erasures/:userId/outbox", onlyFor("user"), async (req, res) => {
    const { userId } = parseParams(person, req);
    const pending = await redis.run(() => outbox.erase(userId));
    res.json({ state: pending === 0 ? "complete" : "pending" });
  });

  addRebuildRoutes(app, "session", {
    start: () => redis.run(() => rebuilds.start()),
    state: () => redis.run(() => rebuilds.state()),
  });

  const digests = remembered(DIGEST_CACHE_MS, async () => {
    const asOf = (await redis.run(() => profiles.asOf())) ?? null;
    return { asOf, buckets: await redis.run(() => profiles.digests(), { timeoutMs: 30_000 }) };
  });
  app.get("/internal/digests", onlyFor("user"), async (req, res) => {
    // An audit must not be answered with what was there before it began.
    res.json(await digests({ fresh: req.query.fresh === "true" }));
  });

  app.get("/internal/digests/:bucket", onlyFor("user"), async (req, res) => {
    const bucket = Number(req.params.bucket);
    if (!Number.isInteger(bucket) || bucket < 0 || bucket > 255) {
      throw badRequest({ path: "bucket", message: "must be 0 to 255" });
    }
    res.json({ users: await redis.run(() => profiles.bucket(bucket), { timeoutMs: 5000 }) });
  });

  addActivity(app);
  app.get("/internal/status", onlyFor("gateway", "session"), async (_req, res) => {
    const unknown = { asOf: null, stalenessSeconds: null, lag: null, deadLetters: null };
    let status: ServiceStatus;
    try {
      const [counts, asOf, projector, relay] = await redis.run(() =>
        Promise.all([profiles.counts(), profiles.asOf(), profiles.reported("projector"), profiles.reported("relay")]),
      );
      status = {
        store: { up: true, ...counts },
        projectors: {
          session: {
            asOf: asOf ?? null,
            stalenessSeconds: asOf ? Math.max(0, (Date.now() - Date.parse(asOf)) / 1000) : null,
            lag: (projector?.lag as number | undefined) ?? null,
            deadLetters: (projector?.deadLetters as number | undefined) ?? null,
          },
        },
        relays: { session: { lagBytes: null, lagSeconds: (relay?.lagSeconds as number | undefined) ?? null } },
      };
    } catch {
      status = {
        store: { up: false },
        projectors: { session: unknown },
        relays: { session: { lagBytes: null, lagSeconds: null } },
      };
    }
    res.json(status);
  });
}
