import { createHmac, timingSafeEqual } from "node:crypto";
import type { NextFunction, Request, Response } from "express";
import { forbidden, unauthorized } from "./problem.ts";

/** Who is calling: a person with a session, the operator, or another service of ours. */
export type Identity =
  | { kind: "user"; userId: string; sessionId: string }
  | { kind: "operator" }
  | { kind: "service"; name: string };

/** The header that carries the signed identity from process to process. */
export const identityHeader = "quartet-identity";

const lifetimeSeconds = 30;
const jwtHeader = Buffer.from(JSON.stringify({ alg: "HS256", typ: "JWT" })).toString("base64url");
const known = new WeakMap<Request, Identity>();

/**
 * A JWT (HS256) that says who is calling, for one target service, valid for 30 s. By node:crypto and not by a JWT library: those are
 * asynchronous (WebCrypto) and cost ten times as much, and exactly one algorithm and one header are ever accepted here.
 */
export function signIdentity(identity: Identity, options: { audience: string; secret: string; now?: number }): string {
  const iat = Math.floor((options.now ?? Date.now()) / 1000);
  const claims = { aud: options.audience, iat, exp: iat + lifetimeSeconds, ...toClaims(identity) };
  const signed = `${jwtHeader}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}`;
  return `${signed}.${mac(signed, options.secret)}`;
}

/** The identity in a token for `service`; undefined if it is malformed, forged, expired, or meant for another. Five seconds of clock skew are forgiven. */
export function verifyIdentity(
  token: string,
  options: { service: string; secret: string; now?: number },
): Identity | undefined {
  const dot = token.lastIndexOf(".");
  if (dot < 0 || token.length > 2048 || !token.startsWith(`${jwtHeader}.`)) return undefined;
  const given = Buffer.from(token.slice(dot + 1));
  const wanted = Buffer.from(mac(token.slice(0, dot), options.secret));
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) return undefined;
  try {
    const claims = JSON.parse(Buffer.from(token.slice(jwtHeader.length + 1, dot), "base64url").toString("utf8"));
    const now = (options.now ?? Date.now()) / 1000;
    if (claims.aud !== options.service || !(claims.exp > now - 5) || !(claims.iat < now + 5)) return undefined;
    return fromClaims(claims);
  } catch {
    return undefined;
  }
}

/** Reads and verifies the identity of each request. A header that does not verify is 401; none is an anonymous caller. */
export function identityMiddleware(options: { service: string; secret: string }) {
  return (req: Request, _res: Response, next: NextFunction): void => {
    const header = req.headers[identityHeader];
    const identity = typeof header === "string" ? verifyIdentity(header, options) : undefined;
    if (identity) known.set(req, identity);
    next(header === undefined || identity ? undefined : unauthorized("the identity of the caller is not valid"));
  };
}

/** Who makes this request; undefined is anonymous. */
export function identityOf(req: Request): Identity | undefined {
  return known.get(req);
}

/** Says who makes this request, for whoever found it out by other means than the header (the gateway). */
export function setIdentity(req: Request, identity: Identity): void {
  known.set(req, identity);
}

/** The person who makes this request; 401 if nobody, 403 if not a person. */
export function requireUser(req: Request): { kind: "user"; userId: string; sessionId: string } {
  const identity = required(req);
  if (identity.kind !== "user") throw forbidden("this needs a person's own token");
  return identity;
}

/** Passes the person `userId` and the operator; 401 if nobody, else 403. */
export function requireSelfOrOperator(req: Request, userId: string): Identity {
  const identity = required(req);
  if (identity.kind === "operator" || (identity.kind === "user" && identity.userId === userId)) return identity;
  throw forbidden();
}

/** Passes only the operator; 401 if nobody, else 403. */
export function requireOperator(req: Request): void {
  if (required(req).kind !== "operator") throw forbidden("this needs the operator's token");
}

/** Passes only another service of ours, and says which; 401 if nobody, else 403. */
export function requireService(req: Request): string {
  const identity = required(req);
  if (identity.kind !== "service") throw forbidden("this is only for services");
  return identity.name;
}

function required(req: Request): Identity {
  const identity = known.get(req);
  if (!identity) throw unauthorized();
  return identity;
}

function mac(text: string, secret: string): string {
  return createHmac("sha256", secret).update(text).digest("base64url");
}

function toClaims(identity: Identity): Record<string, string> {
  if (identity.kind === "user") return { sub: identity.userId, sid: identity.sessionId };
  return identity.kind === "operator" ? { role: "operator" } : { role: "service", iss: identity.name };
}

function fromClaims(claims: Record<string, unknown>): Identity | undefined {
  if (claims.role === "operator") return { kind: "operator" };
  if (claims.role === "service" && typeof claims.iss === "string") return { kind: "service", name: claims.iss };
  if (claims.role === undefined && typeof claims.sub === "string" && typeof claims.sid === "string") {
    return { kind: "user", userId: claims.sub, sessionId: claims.sid };
  }
  return undefined;
}
