import { createHmac } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { encodeToken, factId, logInBody, type SessionEndReason } from "@quartet/contracts";
import {
  awaitFreshness,
  type Dependency,
  expectStatus,
  type HttpProblem,
  identityOf,
  type Keyring,
  notFound,
  type Peer,
  parseBody,
  readFreshness,
  requestIdOf,
  requireUser,
  setAsOf,
  tooManyRequests,
  unauthorized,
} from "@quartet/service";
import type { Express, Request, Response } from "express";
import type { Profiles } from "../store/profiles.ts";
import type { Sessions, VerifiedUser } from "../store/sessions.ts";
import { subjectOf } from "./subject.ts";

export interface SessionRoutes {
  redis: Dependency;
  sessions: Sessions;
  profiles: Profiles;
  user: Peer;
  keyring: Keyring;
}

/** A log-in waits for its turn, asks User, perhaps twice, and is still answered within the 1.8 s that the gateway has. */
const LOGIN_MS = 1600;
const ADMIT_MS = 600;
const VERIFY_MS = 1400;

/** The same words for an unknown login and a wrong password. */
function refused(): HttpProblem {
  return unauthorized("the login or the password is wrong");
}

/** The public calls of Session. */
export function sessionRoutes(app: Express, { redis, sessions, profiles, user, keyring }: SessionRoutes): void {
  const [secret] = keyring.secrets("login attempts");
  const attemptsKey = (login: string) =>
    `attempts:${createHmac("sha256", secret).update(`login:${login.toLowerCase()}`).digest("base64url")}`;

  /** Waits for what the request's token asks for, and says how it went. */
  async function freshen(req: Request, res: Response): Promise<void> {
    const { waitMs, token } = readFreshness(req);
    if (token) await awaitFreshness(res, { waitMs, check: () => redis.run(() => profiles.sees(token)) });
  }

  async function verify(
    req: Request,
    login: string,
    password: string,
    deadline: number,
  ): Promise<VerifiedUser | undefined> {
    const answer = await user.request("POST", "/internal/credentials/verify", {
      body: { login, password },
      requestId: requestIdOf(req),
      timeoutMs: Math.max(100, Math.min(VERIFY_MS, deadline - performance.now())),
    });
    return expectStatus(user, answer, 200, 401).status === 200 ? (answer.body as VerifiedUser) : undefined;
  }

  /** A place among the attempts for a login name, or 429. */
  async function admit(key: string): Promise<string> {
    for (const deadline = performance.now() + ADMIT_MS; ; await sleep(20)) {
      const place = await redis.run(() => sessions.attempt(key));
      if (place === "wait") {
        if (performance.now() < deadline) continue;
        throw tooManyRequests(1);
      }
      if ("go" in place) return place.go;
      throw tooManyRequests(Math.max(1, Math.ceil(place.refusedForMs / 1000)));
    }
  }

  app.post("/v1/sessions", async (req, res) => {
    const { login, password, device } = parseBody(logInBody, req);
    const deadline = performance.now() + LOGIN_MS;
    const key = attemptsKey(login);
    const attempt = await admit(key);
    let failed = false;
    try {
      // Twice, because User may have answered from just before a changed password that is known here already.
      for (let round = 0; round < 2; round++) {
        const verified = await verify(req, login, password, deadline);
        if (!verified) {
          failed = true;
          throw refused();
        }
        const made = await redis.run(() => sessions.create(verified, device, key, attempt));
        if (made.outcome === "created") {
          res.setHeader("Consistency-Token", encodeToken({ f: [factId.sessionStarted(made.session.id)] }));
          res.setHeader("Cache-Control", "no-store");
          res.status(201).json({ token: made.token, session: made.session });
          return;
        }
        if (made.outcome === "erased") throw refused();
      }
      throw refused();
    } catch (error) {
      const settled = redis.run(() => sessions.settle(key, attempt, failed)).catch(() => {});
      // The next guess must find this one counted; an outage has no time to wait for that.
      if (failed) await settled;
      throw error;
    }
  });

  app.get("/v1/sessions/current", async (req, res) => {
    const { userId, sessionId } = requireUser(req);
    await freshen(req, res);
    const found = await redis.run(() => sessions.current(sessionId, userId));
    if (!found) throw unauthorized("the session has ended");
    setAsOf(res, found.asOf);
    res.setHeader("Cache-Control", "no-store");
    res.json({ session: found.session, user: found.user });
  });

  app.get("/v1/sessions", async (req, res) => {
    const userId = subjectOf(req);
    await freshen(req, res);
    const asOf = await redis.run(() => profiles.asOf());
    const list = await redis.run(() => sessions.list(userId));
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
