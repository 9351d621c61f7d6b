import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Thrown for a mistake of the person at the terminal: the message is all they need, no stack. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** An answer that a retry would not change. */
export class RequestFailed extends Error {
  override name = "RequestFailed";
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface SystemAddress {
  url: string;
  operatorToken: string;
}

/** The home of a local system: `QUARTET_HOME`, or `.quartet` in the working folder. */
export function homeFolder(): string {
  return resolve(process.env.QUARTET_HOME ?? ".quartet");
}

/**
 * Finds the running system: `QUARTET_URL` and `QUARTET_OPERATOR_TOKEN` if given, else what `npm start` left in the home folder.
 * Throws UsageError that says what to do.
 */
export function findSystem(): SystemAddress {
  const home = homeFolder();
  const tokenFile = join(home, "operator-token");
  const operatorToken =
    process.env.QUARTET_OPERATOR_TOKEN ?? (existsSync(tokenFile) ? readFileSync(tokenFile, "utf8").trim() : undefined);
  let url = process.env.QUARTET_URL;
  if (!url) {
    const runFile = join(home, "run.json");
    if (!existsSync(runFile)) {
      throw new UsageError(
        "No running system found. Start one with `npm start`, or name one by QUARTET_URL and QUARTET_OPERATOR_TOKEN.",
      );
    }
    url = (JSON.parse(readFileSync(runFile, "utf8")) as { url: string }).url;
  }
  if (!operatorToken) throw new UsageError(`No operator token: set QUARTET_OPERATOR_TOKEN, or look for ${tokenFile}.`);
  return { url: url.replace(/\/$/, ""), operatorToken };
}

export interface Answer {
  status: number;
  body: unknown;
  token: string | null;
}

export interface CallOptions {
  body?: unknown;
  headers?: Record<string, string>;
  /** Called when the system does not answer and the call will be tried again. */
  onWait?: (reason: string) => void;
  /** Give up after so many milliseconds without an answer; default: never, because every call made with this is idempotent. */
  giveUpAfterMs?: number;
}

/**
 * One idempotent call as the operator. Connection errors, 429, 502, 503 and 504 are tried again for as long as it takes, so that a
 * restart of any part is only a pause. Throws RequestFailed for every other error.
 */
export async function call(
  system: SystemAddress,
  method: string,
  path: string,
  options: CallOptions = {},
): Promise<Answer> {
  const started = Date.now();
  for (let attempt = 0; ; attempt++) {
    let reason: string;
    let pauseMs = Math.min(2000, 100 * 2 ** Math.min(attempt, 5));
    try {
      const response = await fetch(system.url + path, {
        method,
        headers: {
          Authorization: `Bearer ${system.operatorToken}`,
          ...(options.body === undefined ? {} : { "Content-Type": "application/json" }),
          ...options.headers,
        },
        ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
        signal: AbortSignal.timeout(60_000),
      });
      const text = await response.text();
      const body = text === "" ? undefined : parse(text);
      if (response.ok) return { status: response.status, body, token: response.headers.get("consistency-token") };
      if (![429, 502, 503, 504].includes(response.status)) {
        throw new RequestFailed(response.status, problemText(response.status, body, `${method} ${path}`));
      }
      reason = problemText(response.status, body, path);
      const retryAfter = Number(response.headers.get("retry-after"));
      if (retryAfter > 0) pauseMs = Math.min(retryAfter * 1000, 5000);
    } catch (error) {
      if (error instanceof RequestFailed) throw error;
      reason = `no answer from ${system.url}`;
    }
    if (options.giveUpAfterMs !== undefined && Date.now() - started > options.giveUpAfterMs) {
      throw new RequestFailed(503, reason);
    }
    options.onWait?.(reason);
    await sleep(pauseMs);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function problemText(status: number, body: unknown, what: string): string {
  const problem = (typeof body === "object" && body !== null ? body : {}) as {
    title?: string;
    detail?: string;
    errors?: { path: string; message: string }[];
  };
  const fields = problem.errors?.map((e) => `${e.path}: ${e.message}`).join("; ");
  return [`${what}: ${status}`, problem.title, problem.detail, fields].filter(Boolean).join(" - ");
}
