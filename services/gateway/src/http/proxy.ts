import {
  canonicalAddress,
  type Identity,
  notFound,
  type PeerAnswer,
  parseWait,
  rawBody,
  unauthorized,
  whileAwaited,
} from "@quartet/service";
import type { Express, Request, Response } from "express";
import { type Authenticate, requireOperator } from "./authenticate.ts";
import type { Limits } from "./limits.ts";
import { budgetMs, type GatewayContext, type ServiceName, type WaitingName } from "./peers.ts";
import type { Tokens } from "./tokens.ts";

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
  service: ServiceName | "track";
  auth: Auth;
  /** The read honours `Prefer: wait`, so its deadline grows by the wait. */
  waits?: true;
  /** What one client asks for takes turns: it costs a store of the service more than a look at one row. */
  turns?: true;
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
  { method: "get", path: "/v1/search", service: "search", auth: "none", waits: true, turns: true },
  { method: "get", path: "/v1/search/suggest", service: "search", auth: "none", waits: true, turns: true },
  { method: "post", path: "/v1/track", service: "track", auth: "optional" },
  // The values that people wrote are not for everybody; the other answers are numbers.
  { method: "get", path: "/v1/analytics/top", service: "analytics", auth: "operator", waits: true },
  ...["signups", "events", "active-users", "sessions", "retention", "funnel"].map(
    (name) =>
      ({
        method: "get",
        path: `/v1/analytics/${name}`,
        service: "analytics",
        auth: "none",
        waits: true,
        turns: true,
      }) as const,
  ),
];

const KiB = 1024;

/** The largest body by path: 1 MiB of tracked events, 8 MiB of an import, 64 KiB of anything else. */
export function bodyLimit(_method: string, path: string): number {
  if (path === "/v1/track") return 1024 * KiB;
  return path === "/v1/admin/import" ? 8 * 1024 * KiB : 64 * KiB;
}

/** What a caller may tell a service. A list of what passes, not of what does not: no cookie, address, identity or connection header gets in. */
const passedRequestHeaders = ["accept", "content-type", "if-match", "if-none-match", "idempotency-key"];

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
export function addProxy(app: Express, context: GatewayContext): void {
  const { peers, authenticate, isOperator, turns } = context;
  for (const route of routes) {
    const isSignUp = route.method === "post" && route.path === "/v1/users";
    app[route.method](route.path, async (req: Request, res: Response) => {
      const start = performance.now();
      const identity = await authorize(authenticate, req, route.auth);
      const client = isOperator(req) ? undefined : canonicalAddress(req.ip);
      const wait = route.waits ? startWait(context, req) : { ms: 0, apart: false, headers: {}, end: () => {} };
      const left = (): number =>
        // Time spent in line for a turn is not taken off one that was ready to wait.
        wait.apart ? wait.ms + budgetMs : Math.max(500, budgetMs - (performance.now() - start));
      const service = wait.apart && isWaiting(route.service) ? (`${route.service}-waiting` as const) : route.service;
      const forward = (signal: AbortSignal): Promise<PeerAnswer<Buffer>> =>
        peers[service].forward(req.method, req.url, {
          identity: identity ?? null,
          headers: { ...requestHeaders(req), ...wait.headers },
          for: req,
          timeoutMs: left(),
          // a DELETE is not sent again: its second answer would be another one; and a sign-up alone honours the key
          idempotent:
            req.method === "GET" || req.method === "HEAD" || (isSignUp && req.headers["idempotency-key"] !== undefined),
          signal,
          ...bodyOf(req),
        });
      try {
        const answer = await whileAwaited(res, (signal) =>
          route.turns && client !== undefined && wait.ms === 0
            ? turns.take(client, { withinMs: wait.apart ? askedToWait(req) : budgetMs - 500, signal }, () =>
                forward(signal),
              )
            : forward(signal),
        );
        sendAnswer(req, res, answer, context.tokens);
      } finally {
        wait.end();
      }
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

function isWaiting(service: ServiceName | "track"): service is WaitingName {
  return service !== "user" && service !== "track";
}

/** A read that waits, or would have. */
export interface Wait {
  /** How long its service waits; 0: it looks once. */
  ms: number;
  /** It asked to wait, whether or not there was a place: what becomes of it says nothing of plain reads, so it goes by the connections and breaker of those that wait. */
  apart: boolean;
  /** What its service is told about it. */
  headers: Record<string, string>;
  /** To be called when the read is over. */
  end: () => void;
}

/**
 * What a read waits for, and how long it may: only one with a consistency token waits, and only while there is a place to wait in. Without one it is asked as if
 * it did not want to, so it is answered at once and says whether it is fresh. 400 for a token that was altered or invented.
 */
export function startWait({ tokens, waits, isOperator }: GatewayContext, req: Request): Wait {
  const token = tokens.open(req);
  const { prefer } = req.headers;
  if (token === undefined) return { ms: 0, apart: false, headers: {}, end: () => {} };
  const headers: Record<string, string> = { "consistency-token": token };
  const ms = askedToWait(req);
  if (ms === 0) return { ms, apart: false, headers, end: () => {} };
  const end = waits.enter(isOperator(req) ? undefined : canonicalAddress(req.ip));
  if (!end) return { ms: 0, apart: true, headers, end: () => {} };
  return { ms, apart: true, headers: { ...headers, prefer: String(prefer) }, end };
}

function askedToWait(req: Request): number {
  return parseWait(req.headers.prefer) * 1000;
}

/** The headers of a request that a service gets to see. */
function requestHeaders(req: Request): Record<string, string> {
  const passed: Record<string, string> = {};
  for (const name of passedRequestHeaders) {
    const value = req.headers[name];
    if (typeof value === "string") passed[name] = value;
  }
  return passed;
}

function bodyOf(req: Request): { body?: Buffer } {
  const bytes = rawBody(req);
  return bytes.length > 0 ? { body: bytes } : {};
}

/** Passes on a service's answer: status, end-to-end headers and body, as they are. */
export function sendAnswer(req: Request, res: Response, answer: PeerAnswer<Buffer>, tokens?: Tokens): void {
  // a path we route and the service does not know: not to be told apart from one that is not there
  if (answer.status === 405 || answer.status === 501) throw notFound();
  const connection = String(answer.headers.connection ?? "").toLowerCase();
  const named = new Set(connection.split(",").map((name) => name.trim()));
  for (const [name, value] of Object.entries(answer.headers)) {
    if (value !== undefined && !droppedAnswerHeaders.has(name) && !named.has(name)) res.setHeader(name, value);
  }
  const token = answer.headers["consistency-token"];
  if (tokens && typeof token === "string") res.setHeader("Consistency-Token", tokens.seal(token));
  if (!res.hasHeader("Cache-Control"))
    res.setHeader("Cache-Control", res.hasHeader("ETag") ? "private, no-cache" : "no-store");
  res.statusCode = answer.status;
  if (answer.status === 204 || answer.status === 304) return void res.end();
  const length = req.method === "HEAD" ? answer.headers["content-length"] : answer.body.length;
  if (length !== undefined) res.setHeader("Content-Length", length);
  res.end(req.method === "HEAD" ? undefined : answer.body);
}
