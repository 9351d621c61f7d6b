import { createHash, timingSafeEqual } from "node:crypto";
import { BlockList, isIP } from "node:net";
import { forbidden, HttpProblem } from "@quartet/service";
import type { Request } from "express";
import type { GatewayConfig } from "../config.ts";
import type { Authenticate } from "../http/authenticate.ts";

/** The header that carries the console's token. That it is no simple header makes a browser ask first, and nobody is ever told yes: CORS is off. */
const consoleHeader = "quartet-console";

export interface Guard {
  /** Whether a request carries the console's token, wherever it comes from. */
  holds(req: Request): boolean;
  /** Passes a request of our own page that carries the console's token, or the operator's: 403 from anywhere else, 401 without it. */
  act(req: Request): void;
  /** Passes whoever may watch: in local mode anybody on this machine, otherwise only with the token. */
  watch(req: Request): void;
}

/** Who may use the console. Undefined while it is off. */
export function consoleGuard(config: GatewayConfig): Guard | undefined {
  if (config.QUARTET_CONSOLE === "off") return undefined;
  const local = config.QUARTET_CONSOLE === "local";
  const wanted = [config.QUARTET_CONSOLE_TOKEN, config.QUARTET_OPERATOR_TOKEN].flatMap((token) =>
    token ? [digest(token)] : [],
  );
  const holds = (req: Request): boolean => {
    const given = req.headers[consoleHeader];
    return typeof given === "string" && wanted.some((token) => timingSafeEqual(digest(given), token));
  };
  const check = (req: Request): void => {
    if (!holds(req)) {
      throw new HttpProblem(401, { detail: "the console's token is needed; it is printed at the start" });
    }
  };
  return {
    holds,
    act(req) {
      requireSameOrigin(req);
      check(req);
    },
    watch(req) {
      const site = req.headers["sec-fetch-site"];
      if (site !== undefined && site !== "same-origin") throw forbidden("this answers only its own page");
      // By name and by address: a name that somebody else points at this machine is not ours, and a name is what anybody may write.
      const here = isLoopback(req.headers.host) && isOwnAddress(req.socket.remoteAddress);
      if (!(local && here)) check(req);
    },
  };
}

/** Adds to the ways to be the operator: our own page with the console's token, instead of `Authorization`. */
export function withConsole(authenticate: Authenticate, guard: Guard | undefined): Authenticate {
  return async (req) => {
    if (!guard || req.headers[consoleHeader] === undefined) return authenticate(req);
    guard.act(req);
    return { kind: "operator" };
  };
}

/** 403 unless a browser says that the request comes from a page of this very origin: by `Origin`, or by `Sec-Fetch-Site` where there is none (GET). */
function requireSameOrigin(req: Request): void {
  const { origin, host, "sec-fetch-site": site } = req.headers;
  const named = typeof origin === "string" ? hostOf(origin) === host : undefined;
  const fetched = site === undefined ? undefined : site === "same-origin";
  const known = [named, fetched].filter((answer) => answer !== undefined);
  if (known.length === 0 || known.includes(false)) throw forbidden("this answers only its own page");
}

function hostOf(origin: string): string | undefined {
  try {
    return new URL(origin).host;
  } catch {
    return undefined;
  }
}

function isLoopback(host: string | undefined): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/.test(host ?? "");
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

function isOwnAddress(address: string | undefined): boolean {
  const family = isIP(address ?? "");
  return family !== 0 && loopback.check(address as string, family === 4 ? "ipv4" : "ipv6");
}

function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
