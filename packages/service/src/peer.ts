import type { Response } from "express";
import { Pool, errors as undici } from "undici";
import { ClientGone } from "./client-gone.ts";
import { createDependency, type Dependency } from "./dependency.ts";
import { identityHeader } from "./identity.ts";
import type { Identity, Keyring } from "./keyring.ts";
import { metrics } from "./metrics.ts";
import { HttpProblem, unavailable } from "./problem.ts";
import { observePool } from "./store-metrics.ts";
import { currentTraceparent, SpanKind, withSpan } from "./tracing.ts";

export interface PeerOptions {
  /** Who signs, as `{kind: "service"}` where nobody else is named. */
  keyring: Keyring;
  /** The name of the service called: the audience of the identity. */
  name: string;
  /** What its breaker and its metrics are called, where one service has several because their fates differ. Default: `name`. */
  as?: string;
  /** Base URL of its public port. */
  url: string;
  /** Deadline of a call unless it says its own. Default 1200 ms. */
  timeoutMs?: number;
  /** Connections at most. Default 128. */
  connections?: number;
  /** The largest answer that is taken in, in bytes. Default 64 MiB. */
  maxAnswerBytes?: number;
}

export interface PeerRequest {
  /** JSON, or bytes with their own `Content-Type` in `headers`. */
  body?: unknown;
  /** Whose request it is. Absent: this service itself; null: nobody. */
  identity?: Identity | null | undefined;
  requestId?: string | undefined;
  traceparent?: string | undefined;
  headers?: Record<string, string>;
  timeoutMs?: number;
  /** Aborts when nobody waits for the answer any more (see `signalOf`): the call is cancelled, and rejects with ClientGone. */
  signal?: AbortSignal;
  /** Asked for each piece of the answer whether there is room for so many bytes more; if not, the call ends as 503, which is no fault of the peer. */
  holds?: (bytes: number) => boolean;
  /** May be sent again when its connection breaks. Default: true for GET, HEAD, PUT, DELETE. */
  idempotent?: boolean;
}

export interface PeerAnswer<B = unknown> {
  status: number;
  headers: Record<string, string | string[]>;
  body: B;
}

export interface Peer {
  readonly name: string;
  readonly state: Dependency["state"];
  /** Calls the peer. The body is parsed if it is JSON, else text. Any status is an answer; no answer is `unavailable(name)`. */
  request(method: string, path: string, options?: PeerRequest): Promise<PeerAnswer>;
  /** The same with the answer's bytes as they came, for a proxy. */
  forward(method: string, path: string, options?: PeerRequest): Promise<PeerAnswer<Buffer>>;
  close(): Promise<void>;
}

const idempotentMethods = new Set(["GET", "HEAD", "PUT", "DELETE"]);
/** Two: after a kill, more than one connection of the pool may be broken. */
const resends = 2;
const maxAnswerBytes = 64 * 1024 * 1024;
const FULL = { detail: "too many answers are held at the moment", slug: "overloaded" };

/**
 * Another service of ours over a keep-alive pool, with a signed identity, the trace, a deadline and a breaker. Connections are given up after
 * 4 s of idleness, before a server that ends closes them (DRAIN_MS). An idempotent call that hit a broken connection is sent again, as is any call
 * that found nobody to connect to: behind one name there may be several processes.
 */
export function createPeer(options: PeerOptions): Peer {
  const pool = new Pool(new URL(options.url).origin, {
    connections: options.connections ?? 128,
    pipelining: 1,
    keepAliveTimeout: 4_000,
    keepAliveMaxTimeout: 4_000,
    connect: { timeout: 1000 },
    headersTimeout: 0,
    bodyTimeout: 0,
    maxResponseSize: options.maxAnswerBytes ?? maxAnswerBytes,
  });
  const base = new URL(options.url).pathname.replace(/\/$/, "");
  const label = options.as ?? options.name;
  const dependency = createDependency(label, { timeoutMs: options.timeoutMs ?? 1200, span: false });
  observePool(metrics, label, () => {
    const { connected, free, running, pending } = pool.stats;
    return { idle: Math.min(free, connected), used: running, max: options.connections ?? 128, waiting: pending };
  });

  const once = async (
    method: string,
    path: string,
    request: PeerRequest,
    signal: AbortSignal,
  ): Promise<PeerAnswer<Buffer>> => {
    const headers: Record<string, string> = { ...request.headers };
    const identity =
      request.identity === undefined ? ({ kind: "service", name: options.keyring.service } as const) : request.identity;
    if (identity) headers[identityHeader] = options.keyring.sign(identity, options.name);
    if (request.requestId) headers["x-request-id"] = request.requestId;
    const traceparent = request.traceparent ?? currentTraceparent();
    if (traceparent) headers.traceparent = traceparent;
    let body: string | Buffer | null = null;
    if (Buffer.isBuffer(request.body)) body = request.body;
    else if (request.body !== undefined) {
      body = JSON.stringify(request.body);
      headers["content-type"] = "application/json";
    }
    const answer = await pool.request({ method: method as "GET", path: base + path, headers, body, signal });
    const pieces: Buffer[] = [];
    for await (const piece of answer.body as AsyncIterable<Buffer>) {
      // Thrown in here, it also ends the reading.
      if (request.holds?.(piece.length) === false)
        throw new HttpProblem(503, { ...FULL, headers: { "Retry-After": "1" } });
      pieces.push(piece);
    }
    const bytes = pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces);
    return { status: answer.statusCode, headers: answer.headers as PeerAnswer["headers"], body: bytes };
  };

  const forward = (method: string, path: string, request: PeerRequest = {}): Promise<PeerAnswer<Buffer>> =>
    withSpan(
      `${method} ${options.name}`,
      { "peer.service": options.name, "http.request.method": method },
      () =>
        dependency.run(
          async (deadline) => {
            const signal = request.signal ? AbortSignal.any([deadline, request.signal]) : deadline;
            for (let again = resends; ; again--) {
              try {
                return await once(method, path, request, signal);
              } catch (error) {
                // No fault of the peer: its breaker must not count it.
                if (request.signal?.aborted && !deadline.aborted) throw new ClientGone();
                const idempotent = request.idempotent ?? idempotentMethods.has(method);
                const harmless = wasRefused(error) || (idempotent && wasReset(error));
                if (again === 0 || signal.aborted || !harmless) throw error;
              }
            }
          },
          request.timeoutMs === undefined ? {} : { timeoutMs: request.timeoutMs },
        ),
      SpanKind.CLIENT,
    );

  return {
    name: options.name,
    get state() {
      return dependency.state;
    },
    forward,
    async request(method, path, request) {
      const answer = await forward(method, path, request);
      try {
        return { ...answer, body: decode(answer) };
      } catch (error) {
        throw unavailable(options.name, 1, error);
      }
    },
    async close() {
      dependency.close();
      await pool.destroy();
    },
  };
}

/** A signal that aborts when the answer is closed: sent, or its client went away. */
export function signalOf(res: Pick<Response, "closed" | "once">): AbortSignal {
  const controller = new AbortController();
  if (res.closed) controller.abort();
  else res.once("close", () => controller.abort());
  return controller.signal;
}

/**
 * The answer if it has the wanted status. A 503 or 429 of the peer passes on as it is (with its `Retry-After`); anything else is `unavailable(peer)`:
 * an answer nobody agreed on is as good as none.
 */
export function expectStatus(peer: Pick<Peer, "name">, answer: PeerAnswer, ...wanted: number[]): PeerAnswer {
  if (wanted.includes(answer.status)) return answer;
  const retry = answer.headers["retry-after"];
  if (answer.status === 503 || answer.status === 429) {
    const detail = (answer.body as { detail?: unknown } | undefined)?.detail;
    throw new HttpProblem(answer.status, {
      detail: typeof detail === "string" ? detail : `${peer.name} is not available`,
      slug: "dependency-unavailable",
      headers: { "Retry-After": typeof retry === "string" ? retry : "1" },
      dependency: peer.name,
    });
  }
  throw unavailable(peer.name, 1, new Error(`${peer.name} answered ${answer.status}`));
}

function decode(answer: PeerAnswer<Buffer>): unknown {
  const type = String(answer.headers["content-type"] ?? "");
  const text = answer.body.toString("utf8");
  if (text === "") return undefined;
  return /[/+]json\b/.test(type) ? JSON.parse(text) : text;
}

function wasRefused(error: unknown): boolean {
  return (error as { code?: string } | null)?.code === "ECONNREFUSED";
}

function wasReset(error: unknown): boolean {
  if (error instanceof undici.SocketError) return true;
  const code = (error as { code?: string } | null)?.code;
  return code === "ECONNRESET" || code === "EPIPE" || code === "UND_ERR_SOCKET";
}
