import type { Request, RequestHandler } from "express";
import type { Identity, Keyring } from "./keyring.ts";
import { forbidden, unauthorized } from "./problem.ts";

/** The header that carries the signed identity from process to process. */
export const identityHeader = "quartet-identity";

const known = new WeakMap<Request, Identity>();

/**
 * Reads and verifies the identity of a request by its headers alone: `createApi({ admit: identify(keyring) })`. A header that does not verify is 401; none is
 * an anonymous caller. Nobody but a service gets as far as sending a body to anything below `/internal`, be it there or not.
 */
export function identify(keyring: Keyring): (req: Request) => void {
  return (req) => {
    const header = req.headers[identityHeader];
    if (header !== undefined) {
      const identity = typeof header === "string" ? keyring.verify(header) : undefined;
      if (!identity) throw unauthorized("the identity of the caller is not valid");
      known.set(req, identity);
    }
    if (/^\/internal(?:\/|$)/.test(req.path) && required(req).kind !== "service") {
      throw forbidden("this is only for services");
    }
  };
}

/** Who makes this request; undefined is anonymous. */
export function identityOf(req: Request): Identity | undefined {
  return known.get(req);
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

/** Passes only the services named, and says which it is; 401 if nobody, else 403. */
export function requireService(req: Request, ...callers: string[]): string {
  const identity = required(req);
  if (identity.kind !== "service") throw forbidden("this is only for services");
  if (!callers.includes(identity.name)) throw forbidden(`this is not for ${identity.name}`);
  return identity.name;
}

/** `requireService` for a route: `app.get(path, onlyFor("gateway"), handler)`. Every internal route names its callers. */
export function onlyFor(...callers: string[]): RequestHandler {
  return (req, _res, next) => {
    requireService(req, ...callers);
    next();
  };
}

function required(req: Request): Identity {
  const identity = known.get(req);
  if (!identity) throw unauthorized();
  return identity;
}
