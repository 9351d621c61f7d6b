import { createHmac } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { LogInBody } from "@quartet/contracts";
import {
  ClientGone,
  clientHeader,
  clientOf,
  createFairQueue,
  type Dependency,
  expectStatus,
  type HttpProblem,
  type Keyring,
  type Peer,
  requestIdOf,
  signalOf,
  tooManyRequests,
  unauthorized,
  unavailable,
} from "@quartet/service";
import type { Request, Response } from "express";
import type { AttemptKeys, CreateResult, Sessions, VerifiedUser } from "../store/sessions.ts";

/** A log-in waits for its turn, asks User, perhaps twice, and is still answered within the 1.8 s that the gateway has. */
const LOGIN_MS = 1600;
const ADMIT_MS = 600;
const VERIFY_MS = 1400;
/** Without so much time left User is not asked any more. */
const SHORTEST_VERIFY_MS = 300;
/** Log-ins that User is asked about at once, many more than it works on; and of one client, and of all, how many wait for that. */
const VERIFICATIONS = { slots: 32, perClient: 32, total: 128 };
/** Log-ins under way of one client, and of all, wherever they stand. */
const PER_CLIENT = 64;
const TOTAL = 512;

/** The same words for an unknown login and a wrong password. */
function refused(): HttpProblem {
  return unauthorized("the login or the password is wrong");
}

export interface LogInDependencies {
  redis: Dependency;
  sessions: Sessions;
  user: Peer;
  keyring: Keyring;
}

/** Makes a session for whoever knows a password. Everything of it is bounded by client, so that one's flood delays nobody else. */
export function createLogIn({ redis, sessions, user, keyring }: LogInDependencies) {
  const [secret] = keyring.secrets("login attempts");
  const hmac = (...parts: string[]) => createHmac("sha256", secret).update(parts.join("\0")).digest("base64url");
  const verifications = createFairQueue({ name: "user", ...VERIFICATIONS, waitMs: LOGIN_MS });
  const underWay = new Map<string, number>();
  let total = 0;

  /** Whom User finds behind login and password; undefined is nobody. */
  async function verify(
    req: Request,
    res: Response,
    { login, password }: LogInBody,
    deadline: number,
  ): Promise<VerifiedUser | undefined> {
    const client = clientOf(req);
    const left = () => deadline - performance.now();
    const over = new AbortController();
    const timer = setTimeout(() => over.abort(), left());
    try {
      return await verifications.run({ client, res, waitMs: left() - SHORTEST_VERIFY_MS }, async () => {
        const answer = await user.request("POST", "/internal/credentials/verify", {
          body: { login, password },
          headers: { [clientHeader]: client },
          requestId: requestIdOf(req),
          timeoutMs: VERIFY_MS,
          // What the queue took of the time is no fault of User.
          signal: AbortSignal.any([signalOf(res), over.signal]),
        });
        return expectStatus(user, answer, 200, 401).status === 200 ? (answer.body as VerifiedUser) : undefined;
      });
    } catch (error) {
      throw error instanceof ClientGone && !res.closed ? unavailable("user", 1, error) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** A place among the attempts for a login name, or 429. */
  async function admit(keys: AttemptKeys, res: Response): Promise<string> {
    for (const deadline = performance.now() + ADMIT_MS; ; ) {
      const place = await redis.run(() => sessions.attempt(keys));
      if (place !== "wait" && "go" in place) return place.go;
      const waitMs = place === "wait" ? 20 : place.refusedForMs;
      if (performance.now() + waitMs > deadline) throw tooManyRequests(waitMs / 1000);
      await sleep(waitMs);
      if (res.closed) throw new ClientGone();
    }
  }

  async function make(req: Request, res: Response, body: LogInBody): Promise<CreateResult & { outcome: "created" }> {
    const deadline = performance.now() + LOGIN_MS;
    const name = body.login.toLowerCase();
    const keys = { own: hmac(name, clientOf(req)), name: hmac(name) };
    const attempt = await admit(keys, res);
    let failed = false;
    try {
      // Twice, because User may have answered from just before a changed password that is known here already.
      for (let round = 0; round < 2; round++) {
        const verified = await verify(req, res, body, deadline);
        if (!verified) {
          failed = true;
          throw refused();
        }
        const made = await redis.run(() => sessions.create(verified, body.device, keys, attempt));
        if (made.outcome === "created") return made;
        if (made.outcome === "erased") throw refused();
      }
      throw refused();
    } catch (error) {
      const settled = redis.run(() => sessions.settle(keys, attempt, failed)).catch(() => {});
      // The next guess must find this one counted; an outage has no time to wait for that.
      if (failed) await settled;
      throw error;
    }
  }

  return async (req: Request, res: Response, body: LogInBody) => {
    const client = clientOf(req);
    const mine = underWay.get(client) ?? 0;
    if (mine >= PER_CLIENT) throw tooManyRequests(1);
    if (total >= TOTAL) throw unavailable("session");
    underWay.set(client, mine + 1);
    total++;
    try {
      return await make(req, res, body);
    } finally {
      total--;
      const others = (underWay.get(client) ?? 1) - 1;
      if (others > 0) underWay.set(client, others);
      else underWay.delete(client);
    }
  };
}
