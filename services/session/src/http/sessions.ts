import { encodeToken, factId, logInBody, type SessionEndReason } from "@quartet/contracts";
import {
  type Dependency,
  identityOf,
  type Keyring,
  notFound,
  type Peer,
  parseBody,
  requireUser,
  setAsOf,
  unauthorized,
} from "@quartet/service";
import type { Express, Response } from "express";
import type { Profiles } from "../store/profiles.ts";
import type { Sessions } from "../store/sessions.ts";
import type { Freshen } from "./freshness.ts";
import { createLogIn } from "./log-in.ts";
import { subjectOf } from "./subject.ts";

export interface SessionRoutes {
  /** For log-ins and revocations. */
  redis: Dependency;
  /** For reads. */
  reads: Dependency;
  /** On the connection that goes with `redis`. */
  sessions: Sessions;
  /** On the one that goes with `reads`. */
  shown: Pick<Sessions, "current" | "list">;
  profiles: Profiles;
  freshen: Freshen;
  user: Peer;
  keyring: Keyring;
}

/** The public calls of Session. */
export function sessionRoutes(app: Express, deps: SessionRoutes): void {
  const { redis, reads, sessions, shown, profiles, freshen } = deps;
  const logIn = createLogIn(deps);

  app.post("/v1/sessions", async (req, res) => {
    const made = await logIn(req, res, parseBody(logInBody, req));
    res.setHeader("Consistency-Token", encodeToken({ f: [factId.sessionStarted(made.session.id)] }));
    res.setHeader("Cache-Control", "no-store");
    res.status(201).json({ token: made.token, session: made.session });
  });

  app.get("/v1/sessions/current", async (req, res) => {
    const { userId, sessionId } = requireUser(req);
    await freshen(req, res);
    const found = await reads.run(() => shown.current(sessionId, userId));
    if (!found) throw unauthorized("the session has ended");
    setAsOf(res, found.asOf);
    res.setHeader("Cache-Control", "no-store");
    res.json({ session: found.session, user: found.user });
  });

  app.get("/v1/sessions", async (req, res) => {
    const userId = subjectOf(req);
    await freshen(req, res);
    const asOf = await reads.run(() => profiles.asOf());
    const list = await reads.run(() => shown.list(userId));
    const caller = identityOf(req);
    // What it waited for may have ended the very session that asks.
    if (caller?.kind === "user" && !list.some(({ id }) => id === caller.sessionId))
      throw unauthorized("the session has ended");
    setAsOf(res, asOf);
    res.setHeader("Cache-Control", "no-store");
    res.json({ sessions: list });
  });

  const ended = (res: Response, ids: string[]) => {
    // Of very many the last: they come last through outbox, stream and projector.
    res.setHeader("Consistency-Token", encodeToken({ f: ids.slice(-50).map((id) => factId.sessionEnded(id)) }));
    res.status(204).end();
  };

  app.delete("/v1/sessions/current", async (req, res) => {
    const { userId, sessionId } = requireUser(req);
    if (!(await redis.run(() => sessions.end(sessionId, userId, "logout"))))
      throw unauthorized("the session has ended");
    ended(res, [sessionId]);
  });

  app.delete("/v1/sessions/:id", async (req, res) => {
    const owner = identityOf(req)?.kind === "operator" ? null : requireUser(req).userId;
    const { id } = req.params as { id: string };
    const reason: SessionEndReason = "revoked";
    if (!(await redis.run(() => sessions.end(id, owner, reason)))) throw notFound("there is no such session");
    ended(res, [id]);
  });

  app.delete("/v1/sessions", async (req, res) => {
    const userId = subjectOf(req);
    ended(res, await redis.run(() => sessions.endAll(userId, "revoked")));
  });
}
