import {
  canonicalAddress,
  clientHeader,
  type Identity,
  notFound,
  type PeerAnswer,
  parseWait,
  rawBody,
  requestIdOf,
  unauthorized,
} from "@quartet/service";
import type { Express, Request, Response } from "express";
import { type Authenticate, requireOperator } from "./authenticate.ts";
import type { Limits } from "./limits.ts";
import { budgetMs, type GatewayContext, type Peers } from "./peers.ts";

/**
 * Whose request it is. `none`: the answer is the same for everybody, so `Authorization` is not looked at and the path works while Session is
 * down. `optional`: anonymous without a token, yet a token that is given must be valid. `required`: 401 without.
 * `operator`: 401 without, 403 for anybody else.
 */
type Auth = "none" | "optional" | "required" | "operator";
type Method = "get" | "post" | "patch" | "delete";

interface Route {
  method: Method;
  path: string;
  service: keyof Peers;
  auth: Auth;
  /** The read honours `Prefer: wait`, so its deadline grows by the wait. */
  waits?: true;
}

/** Every path that is passed through, and nothing else: what a service has beyond it is not reachable from outside. */
export const routes: readonly Route[] = [
  { method: "post", path: "/v1/users", service: "user", auth: "none" },
  { method: "get", path: "/v1/users/:id", service: "user", auth: "optional" },
  { method: "patch", path: "/v1/users/:id", service: "user", auth: "required" },
  { method: "delete", path: "/v1/users/:id", service: "user", auth: "required" },
  { method: "get", path: "/v1/erasures/:id", service: "user", auth: "none" },
  { method: "post", path: "/v1/sessions", service: "session", auth: "none" },
  { method: "get", path: "/v1/sessions", service: "session", auth: "required", waits: true },
  { method: "delete", path: "/v1/sessions", service: "session", auth: "required" },
  { method: "get", path: "/v1/sessions/current", service: "session", auth: "required", waits: true },
  { method: "delete", path: "/v1/sessions/current", service: "session", auth: "required" },
  { method: "delete", path: "/v1/sessions/:id", service: "session", auth: "required" },
  { method: "get", path: "/v1/search", service: "search", auth: "none", waits: true },
  { method: "get", path: "/v1/search/suggest", service: "search", auth: "none", waits: true },
  { method: "post", path: "/v1/track", service: "track", auth: "optional" },
  // The values that people wrote are not for everybody; the other answers are numbers.
  { method: "get", path: "/v1/analytics/top", service: "analytics", auth: "operator", waits: true },
  ...["signups", "events", "active-users", "sessions", "retention", "funnel"].map(
    (name) =>
      ({ method: "get", path: `/v1/analytics/${name}`, service: "analytics", auth: "none", waits: true }) as const,
  ),
];

const KiB = 1024;

/** The largest body by path: 1 MiB of tracked events, 8 MiB of an import, 64 KiB of anything else. */
export function bodyLimit(_method: string, path: string): number {
  if (path === "/v1/track") return 1024 * KiB;
  return path === "/v1/admin/import" ? 8 * 1024 * KiB : 64 * KiB;
}

/** What a caller may tell a service. A list of what passes, not of what does not: no cookie, address, identity or connection header gets in. */
const passedRequestHeaders = [
  "accept",
  "content-type",
  "if-match",
  "if-none-match",
  "idempotency-key",
  "consistency-token",
  "prefer",
];

/** What belongs to one connection (RFC 9110, 7.6.1), or is ours to say. */
const droppedAnswerHeaders = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "content-length",
  "date",
  "server",
  "x-powered-by",
  "x-request-id",
  "traceparent",
  "quartet-identity",
  "allow",
]);

/** Adds the pass-through routes. Bodies and answers are held whole: both are bounded, and an answer cut off half-way can still become a 503. */
export function addProxy(app: Express, { peers, authenticate }: GatewayContext): void {
  for (const route of routes) {
    const isSignUp = route.method === "post" && route.path === "/v1/users";
    app[route.method](route.path, async (req: Request, res: Response) => {
      const start = performance.now();
      const identity = await authorize(authenticate, req, route.auth);
      const wait = route.waits ? parseWait(req.headers.prefer) * 1000 : 0;
      const answer = await peers[route.service].forward(req.method, req.url, {
        identity: identity ?? null,
        headers: requestHeaders(req),
        requestId: requestIdOf(req),
        timeoutMs: wait > 0 ? wait + budgetMs : Math.max(500, budgetMs - (performance.now() - start)),
        // a DELETE is not sent again: its second answer would be another one; and a sign-up alone honours the key
        idempotent:
          req.method === "GET" || req.method === "HEAD" || (isSignUp && req.headers["idempotency-key"] !== undefined),
        ...bodyOf(req),
      });
      sendAnswer(req, res, answer);
    });
  }
}

/** Whose request it is, or why it may not be made. */
async function authorize(authenticate: Authenticate, req: Request, auth: Auth): Promise<Identity | undefined> {
  if (auth === "none") return undefined;
  if (auth === "operator") await requireOperator(authenticate, req);
  const identity = await authenticate(req);
  if (auth === "required" && !identity) throw unauthorized();
  return identity;
}

/**
 * Before a body is read: 429 for who asks too often, 401 and 403 for who may not send it. What a handler asks again, it is told the same.
 */
export function admission(authenticate: Authenticate, limits: Limits): (req: Request, res: Response) => Promise<void> {
  const table = routes.map(({ method, path, auth }) => ({
    method: method.toUpperCase(),
    matches: matcherOf(path),
    auth,
  }));
  return async (req, res) => {
    await limits.byClient(req, res);
    const admin = hasBody(req) && req.path.startsWith("/v1/admin/");
    const route = table.find(({ method, matches }) => method === req.method && matches(req.path));
    const identity = await authorize(authenticate, req, admin ? "operator" : (route?.auth ?? "none"));
    if (identity) await limits.byPrincipal(req, res, identity);
  };
}

const hasBody = (req: Request): boolean =>
  req.headers["transfer-encoding"] !== undefined || Number(req.headers["content-length"] ?? 0) > 0;

function matcherOf(pattern: string): (path: string) => boolean {
  const wanted = pattern.split("/");
  return (path) => {
    const parts = path.split("/", wanted.length + 1);
    return parts.length === wanted.length && wanted.every((part, i) => part.startsWith(":") || part === parts[i]);
  };
}

/** The headers of a request that a service gets to see, and for which client it is. */
export function requestHeaders(req: Request): Record<string, string> {
  const passed: Record<string, string> = { [clientHeader]: canonicalAddress(req.ip) };
  for (const name of passedRequestHeaders) {
    const value = req.headers[name];
    if (typeof value === "string") passed[name] = value;
  }
  return passed;
}

/** Headers for the parts of a composed read: its consistency token and its wait. */
export function freshnessHeaders(req: Request): Record<string, string> {
  const { "consistency-token": token, prefer } = requestHeaders(req);
  return { ...(token ? { "consistency-token": token } : {}), ...(prefer ? { prefer } : {}) };
}

function bodyOf(req: Request): { body?: Buffer } {
  const bytes = rawBody(req);
  return bytes.length > 0 ? { body: bytes } : {};
}

/** Passes on a service's answer: status, end-to-end headers and body, as they are. */
export function sendAnswer(req: Request, res: Response, answer: PeerAnswer<Buffer>): void {
  // a path we route and the service does not know: not to be told apart from one that is not there
  if (answer.status === 405 || answer.status === 501) throw notFound();
  const named = new Set(
    String(answer.headers.connection ?? "")
      .toLowerCase()
      .split(/\s*,\s*/),
  );
  for (const [name, value] of Object.entries(answer.headers)) {
    if (value !== undefined && !droppedAnswerHeaders.has(name) && !named.has(name)) res.setHeader(name, value);
  }
  if (!res.hasHeader("Cache-Control"))
    res.setHeader("Cache-Control", res.hasHeader("ETag") ? "private, no-cache" : "no-store");
  res.statusCode = answer.status;
  if (answer.status === 204 || answer.status === 304) return void res.end();
  const length = req.method === "HEAD" ? answer.headers["content-length"] : answer.body.length;
  if (length !== undefined) res.setHeader("Content-Length", length);
  res.end(req.method === "HEAD" ? undefined : answer.body);
}

export type { Identity };
