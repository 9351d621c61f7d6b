import { type ServiceStatus, userIdField } from "@quartet/contracts";
import {
  addActivity,
  addRebuildRoutes,
  badRequest,
  type Dependency,
  onlyFor,
  parseBody,
  parseParams,
  type Rebuilds,
  remembered,
  setAsOf,
  unauthorized,
} from "@quartet/service";
import type { Express } from "express";
import { z } from "zod";
import type { PersonsOutbox } from "../events/relay.ts";
import type { Profiles } from "../store/profiles.ts";
import type { Sessions } from "../store/sessions.ts";
import type { Freshen } from "./freshness.ts";

export interface InternalRoutes {
  /** For introspection: nothing a reader does delays it. */
  redis: Dependency;
  /** For everything else, but what an audit asks. */
  reads: Dependency;
  audits: Dependency;
  sessions: Sessions;
  /** On the connection that goes with `reads`. */
  shown: Pick<Sessions, "list">;
  profiles: Profiles;
  /** On the one that goes with `audits`. */
  audited: Pick<Profiles, "asOf" | "digests" | "bucket">;
  freshen: Freshen;
  rebuilds: Rebuilds;
  outbox: PersonsOutbox;
}

const introspection = z.strictObject({ token: z.string().max(4096) });
const erasure = z.strictObject({ userId: userIdField, version: z.number().int().nonnegative() });
const person = z.object({ userId: userIdField });
/** For who does not ask for fresh ones: the as-of beside them is always the newest. */
const DIGEST_CACHE_MS = 600_000;

/** The calls that only other services of ours make. */
export function internalRoutes(app: Express, deps: InternalRoutes): void {
  const { redis, reads, audits, sessions, shown, profiles, audited, freshen, rebuilds, outbox } = deps;
  app.post("/internal/introspect", onlyFor("gateway"), async (req, res) => {
    const { token } = parseBody(introspection, req);
    const found = await redis.run(() => sessions.introspect(token), { timeoutMs: 650 });
    if (!found) throw unauthorized("the token is not valid");
    res.json(found);
  });

  app.get("/internal/presence/:userId", onlyFor("gateway"), async (req, res) => {
    const { userId } = parseParams(person, req);
    await freshen(req, res);
    setAsOf(res, await reads.run(() => profiles.asOf()));
    const living = await reads.run(() => shown.list(userId));
    const lastSeenAt =
      living
        .map((s) => s.lastSeenAt)
        .sort()
        .at(-1) ?? null;
    res.json({ activeSessions: living.length, lastSeenAt });
  });

  app.post("/internal/erasures", onlyFor("user"), async (req, res) => {
    const { userId, version } = parseBody(erasure, req);
    const left = await reads.run(() => profiles.erasure(userId, version));
    // They stay until Analytics has counted them: what the broker loses before that is sent again from here.
    const complete = left === 0 && (await reads.run(() => outbox.pending(userId))) === 0;
    res.json({ state: complete ? "complete" : "pending" });
  });

  app.delete("/internal/erasures/:userId/outbox", onlyFor("user"), async (req, res) => {
    const { userId } = parseParams(person, req);
    const pending = await reads.run(() => outbox.erase(userId));
    res.json({ state: pending === 0 ? "complete" : "pending" });
  });

  addRebuildRoutes(app, "session", {
    start: () => reads.run(() => rebuilds.start()),
    state: () => reads.run(() => rebuilds.state()),
  });

  const digests = remembered(DIGEST_CACHE_MS, () => audits.run((signal) => audited.digests(signal)));
  app.get("/internal/digests", onlyFor("user"), async (req, res) => {
    // Read first: the digests hold what was there then. Who only waits for the as-of to move starts no walk for it.
    const asOf = (await audits.run(() => audited.asOf())) ?? null;
    // An audit must not be answered with what was there before it began.
    const fresh = req.query.fresh === "true";
    res.json({ asOf, buckets: await digests({ fresh }) });
  });

  app.get("/internal/digests/:bucket", onlyFor("user"), async (req, res) => {
    const bucket = Number(req.params.bucket);
    if (!Number.isInteger(bucket) || bucket < 0 || bucket > 255) {
      throw badRequest({ path: "bucket", message: "must be 0 to 255" });
    }
    res.json({ users: await audits.run((signal) => audited.bucket(bucket, signal), { timeoutMs: 5000 }) });
  });

  addActivity(app);
  app.get("/internal/status", onlyFor("gateway", "session"), async (_req, res) => {
    const unknown = { asOf: null, stalenessSeconds: null, lag: null, deadLetters: null };
    let status: ServiceStatus;
    try {
      const [counts, asOf, projector, relay] = await reads.run(() =>
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
