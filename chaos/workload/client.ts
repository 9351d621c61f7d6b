import { Agent, request } from "undici";
import type { Endpoint } from "../availability.ts";
import type { Did, History, Outcome } from "../history.ts";

export interface Answer {
  status: number;
  outcome: Outcome;
  // biome-ignore lint/suspicious/noExplicitAny: the body of any endpoint
  body: any;
  /** The consistency token of a write. */
  consistency: string | undefined;
  waited: boolean;
  asOf: number | undefined;
  /** When the answer was complete, ms since 1970. */
  end: number;
}

export interface Call {
  token?: string | undefined;
  body?: unknown;
  headers?: Record<string, string>;
  /** Consistency token of a write that the answer is to show, and for how many seconds to wait for it. */
  after?: string | undefined;
}

/** Longer than anything the system may take: an answer that is later than its budget is seen as late, not as lost. */
const TIMEOUT_MS = 6_000;

/** Makes requests through the gateway and writes each down. */
export class ChaosClient {
  readonly url: string;
  readonly operatorToken: string;
  readonly #history: History;
  readonly #agent = new Agent({ connections: 256, pipelining: 1, keepAliveTimeout: 2_000 });

  constructor(url: string, operatorToken: string, history: History) {
    this.url = url.replace(/\/$/, "");
    this.operatorToken = operatorToken;
    this.#history = history;
  }

  /**
   * One request. `did` says what it was about, from the answer. An endpoint is named by its entry in the availability table; the path is what is
   * really asked. Never rejects.
   */
  async call(
    client: string,
    endpoint: Endpoint,
    method: "GET" | "POST" | "PATCH" | "DELETE",
    path: string,
    call: Call,
    did: (answer: Answer) => Did,
  ): Promise<Answer> {
    const headers: Record<string, string> = { ...call.headers };
    if (call.token) headers.authorization = `Bearer ${call.token}`;
    // All of them come from one address: with the operator's token they are not counted, and otherwise it means nothing there.
    else if (/^\/v1\/(users|sessions)$/.test(path)) headers.authorization = `Bearer ${this.operatorToken}`;
    if (call.body !== undefined) headers["content-type"] = "application/json";
    if (call.after) {
      headers["consistency-token"] = call.after;
      headers.prefer ??= "wait=1";
    }
    const at = now();
    let answer: Answer;
    try {
      const response = await request(this.url + path, {
        method,
        headers,
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
        dispatcher: this.#agent,
        headersTimeout: TIMEOUT_MS,
        bodyTimeout: TIMEOUT_MS,
      });
      const text = await response.body.text();
      const header = (name: string): string | undefined => {
        const value = response.headers[name];
        return typeof value === "string" ? value : undefined;
      };
      const status = response.statusCode;
      const asOf = header("quartet-as-of");
      answer = {
        status,
        outcome: status < 400 ? "ok" : status < 500 ? "refused" : "unknown",
        body: text && (header("content-type") ?? "").includes("json") ? JSON.parse(text) : undefined,
        consistency: header("consistency-token"),
        waited: header("preference-applied") !== undefined,
        asOf: asOf ? Date.parse(asOf) : undefined,
        end: now(),
      };
    } catch {
      answer = {
        status: 0,
        outcome: "unknown",
        body: undefined,
        consistency: undefined,
        waited: false,
        asOf: undefined,
        end: now(),
      };
    }
    const degraded = isDegraded(endpoint, answer);
    this.#history.add({
      client,
      endpoint,
      at,
      ms: answer.end - at,
      status: answer.status,
      outcome: answer.outcome,
      ...(degraded ? { degraded } : {}),
      ...(answer.asOf === undefined ? {} : { asOf: answer.asOf }),
      did: did(answer),
    });
    return answer;
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}

function isDegraded(endpoint: Endpoint, { status, body }: Answer): boolean {
  if (status !== 200) return false;
  if (endpoint === "GET /v1/people/:id") return body.missing.length > 0;
  if (endpoint !== "GET /v1/admin/status") return false;
  return Object.values(body.stores as Record<string, { up: boolean }>).some((store) => !store.up);
}

/** ms since 1970, finer than a millisecond and never backwards. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}
