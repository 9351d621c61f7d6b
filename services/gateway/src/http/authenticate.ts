import { createHash, timingSafeEqual } from "node:crypto";
import { expectStatus, forbidden, type Identity, unauthorized, unavailable } from "@quartet/service";
import type { Request } from "express";
import { z } from "zod";
import type { Callee } from "./callee.ts";

/** Finds out who makes a request; undefined if it carries no `Authorization`. 401 for one that is not valid, 503 if Session does not answer. */
export type Authenticate = (req: Request) => Promise<Identity | undefined>;

const introspected = z.object({ sessionId: z.string().min(1), userId: z.uuid() });
const introspectionMs = 700;

/**
 * The operator's token is compared here, in constant time; every other bearer token is asked about at Session, each time: nothing is
 * cached, so a revoked token is refused from the moment its revocation is committed.
 */
export function authenticator(session: Callee, isOperator: (req: Request) => boolean): Authenticate {
  return async (req) => {
    if (req.headers.authorization === undefined) return undefined;
    const token = bearerOf(req);
    if (token === undefined) throw unauthorized("Authorization must be `Bearer` and a token");
    if (isOperator(req)) return { kind: "operator" };
    const answer = await session.request("POST", "/internal/introspect", {
      body: { token },
      for: req,
      timeoutMs: introspectionMs,
      idempotent: true,
    });
    if (answer.status === 401) throw unauthorized("the token is not valid, or no longer");
    const known = introspected.safeParse(expectStatus(session, answer, 200).body);
    if (!known.success) throw unavailable("session", 1, known.error);
    return { kind: "user", ...known.data };
  };
}

/** Whether a request carries the operator's token; nobody is asked for it, and it is compared once however many want to know. */
export function operatorCheck(operatorToken: string): (req: Request) => boolean {
  const operator = digest(operatorToken);
  const known = new WeakMap<Request, boolean>();
  return (req) => {
    let answer = known.get(req);
    if (answer === undefined) {
      const token = bearerOf(req);
      answer = token !== undefined && timingSafeEqual(digest(token), operator);
      known.set(req, answer);
    }
    return answer;
  };
}

/** The same answer for the same request, however often it is asked. */
export function oncePerRequest(authenticate: Authenticate): Authenticate {
  const known = new WeakMap<Request, Promise<Identity | undefined>>();
  return (req) => {
    let answer = known.get(req);
    if (!answer) {
      answer = authenticate(req);
      // Whoever asks gets the rejection; nobody may have to ask.
      answer.catch(() => {});
      known.set(req, answer);
    }
    return answer;
  };
}

function bearerOf(req: Request): string | undefined {
  return /^Bearer +([\x21-\x7e]{1,512})$/i.exec(req.headers.authorization ?? "")?.[1];
}

/** 401 without an identity, 403 with one that is not the operator's. */
export async function requireOperator(authenticate: Authenticate, req: Request): Promise<void> {
  const identity = await authenticate(req);
  if (!identity) throw unauthorized("the operator's token is needed");
  if (identity.kind !== "operator") throw forbidden("this needs the operator's token");
}

function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
