import type { Request } from "express";
import type { z } from "zod";
import { ijsonFlaw } from "./ijson.ts";
import { badRequest, type FieldError, HttpProblem, tooLarge, unsupportedMediaType } from "./problem.ts";

const bodies = new WeakMap<Request, Buffer>();
const utf8 = new TextDecoder("utf-8", { fatal: true });
const empty = Buffer.alloc(0);

/** Bytes that are read and thrown away behind a 413, so that a client still writing gets to read its answer; beyond it the connection is cut. */
const discardBytes = 16 * 1024 * 1024;

/**
 * Reads the whole body of a request into memory, at most `limitBytes`; more is 413, at once, while the rest of it is read and dropped (a
 * server that stops reading makes the client hang or see a reset instead of the answer). Done for every request and before routing. What does not fit
 * into `budget` any more, as a whole or for this client, is 503.
 */
export function bufferBody(req: Request, limitBytes: number, budget?: BodyBudget, client?: string): Promise<void> {
  const encoding = req.headers["content-encoding"];
  const declared = Number(req.headers["content-length"] ?? 0);
  if (declared > limitBytes) {
    dropBody(req);
    return Promise.reject(tooLarge(limitBytes));
  }
  if (declared === 0 && req.headers["transfer-encoding"] === undefined) return Promise.resolve();
  if (encoding !== undefined && encoding !== "identity") {
    dropBody(req);
    return Promise.reject(unsupportedMediaType("a compressed body is not accepted"));
  }
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > limitBytes) {
        settle();
        dropBody(req);
        reject(tooLarge(limitBytes));
      } else if (budget && !budget.take(req, chunk.length, client)) {
        settle();
        dropBody(req);
        reject(new HttpProblem(503, { ...FULL, headers: { "Retry-After": "1" } }));
      } else chunks.push(chunk);
    };
    const onEnd = (): void => {
      settle();
      bodies.set(req, chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks));
      resolve();
    };
    const onClose = (): void => {
      settle();
      reject(new HttpProblem(400, { detail: "the body ended early", slug: "aborted" }));
    };
    const settle = (): void => {
      req.off("data", onData).off("end", onEnd).off("close", onClose).off("error", onClose);
      req.on("error", () => {});
    };
    req.on("data", onData).on("end", onEnd).on("close", onClose).on("error", onClose);
  });
}

const FULL = { detail: "too many bodies are being read at the moment", slug: "overloaded" };

/**
 * The bytes of bodies, or of what is to answer them, that a process holds at the same time: of all requests, and of one client's. They count from their
 * arrival until their request is answered. Whoever is not told apart by a client (the operator) is bounded by the whole alone.
 */
export class BodyBudget {
  readonly #most: number;
  readonly #mostPerClient: number;
  readonly #held = new Map<Request, { bytes: number; client: string | undefined }>();
  readonly #perClient = new Map<string, number>();
  #bytes = 0;

  /** One client may have a quarter of `most` bytes. */
  constructor(most: number) {
    this.#most = most;
    this.#mostPerClient = Math.ceil(most / 4);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False if they do not fit; nothing is counted then. */
  take(req: Request, bytes: number, client: string | undefined): boolean {
    const ofClient = client === undefined ? 0 : (this.#perClient.get(client) ?? 0) + bytes;
    if (this.#bytes + bytes > this.#most || ofClient > this.#mostPerClient) return false;
    let held = this.#held.get(req);
    if (!held) {
      held = { bytes: 0, client };
      this.#held.set(req, held);
      const give = (): void => this.#giveBack(req);
      if (req.res) req.res.once("close", give);
      else req.once("close", give);
    }
    held.bytes += bytes;
    this.#bytes += bytes;
    if (client !== undefined) this.#perClient.set(client, ofClient);
    return true;
  }

  #giveBack(req: Request): void {
    const held = this.#held.get(req);
    if (!held) return;
    this.#held.delete(req);
    this.#bytes -= held.bytes;
    if (held.client === undefined) return;
    const left = (this.#perClient.get(held.client) ?? 0) - held.bytes;
    if (left > 0) this.#perClient.set(held.client, left);
    else this.#perClient.delete(held.client);
  }
}

/** Reads the rest of a body and throws it away, up to a bound, so that who sends it can read its answer; then the connection is cut. */
export function dropBody(req: Request): void {
  let size = 0;
  req.on("error", () => {});
  req.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size > discardBytes) req.destroy();
  });
}

/** The bytes of the body as they came; empty if there was none. */
export function rawBody(req: Request): Buffer {
  return bodies.get(req) ?? empty;
}

/**
 * The JSON body through `schema`. 415 if it is not UTF-8 JSON by its content type; 400 if it is empty, malformed, not an object, or
 * refused by the schema, or would not be held as it was written (`ijsonFlaw`), with a `path` for each field (`tags.3`; unknown fields are named too if the schema is strict).
 */
export function parseBody<S extends z.ZodType>(schema: S, req: Request): z.output<S> {
  const body = jsonBody(req);
  const parsed = check(schema, body, "body");
  // Records pass over this one key, and what is passed over would be lost without a word.
  const lost = pathOfProto(body);
  if (lost) throw badRequest({ path: lost.join(".").slice(0, 200), message: "is not a known field" });
  return parsed;
}

/** The query string through `schema`; 400 naming the parameters. A repeated parameter arrives as an array. */
export function parseQuery<S extends z.ZodType>(schema: S, req: Request): z.output<S> {
  return check(schema, { ...req.query }, "query");
}

/** The path parameters through `schema`; 400 naming them. */
export function parseParams<S extends z.ZodType>(schema: S, req: Request): z.output<S> {
  return check(schema, { ...req.params }, "path");
}

/** The body as a JSON object, by the rules of `parseBody`, without a schema. What would not be held as it was written is 400 too: see `ijsonFlaw`. */
function jsonBody(req: Request): Record<string, unknown> {
  const bytes = rawBody(req);
  if (bytes.length === 0) throw badRequest({ path: "body", message: "a JSON object is needed" });
  requireJson(req.headers["content-type"]);
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw badRequest({ path: "body", message: "is not valid UTF-8" });
  }
  const flaw = ijsonFlaw(text);
  if (flaw) throw badRequest(flaw);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw badRequest({ path: "body", message: "is not valid JSON" });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw badRequest({ path: "body", message: "must be a JSON object" });
  }
  return value as Record<string, unknown>;
}

/** Where a field called `__proto__` is, however deep; undefined if nowhere. */
function pathOfProto(value: unknown): string[] | undefined {
  const open: { at: string[]; value: unknown }[] = [{ at: [], value }];
  for (let next = open.pop(); next; next = open.pop()) {
    if (typeof next.value !== "object" || next.value === null) continue;
    for (const [key, inner] of Object.entries(next.value)) {
      if (key === "__proto__") return [...next.at, key];
      open.push({ at: [...next.at, key], value: inner });
    }
  }
  return undefined;
}

function requireJson(contentType: string | undefined): void {
  const [type = "", ...parameters] = (contentType ?? "").toLowerCase().split(";");
  const charset = parameters.map((p) => p.trim()).find((p) => p.startsWith("charset="));
  const json = /^\s*application\/(json|[a-z0-9.+-]+\+json)\s*$/.test(type);
  if (!json || (charset && !/^charset="?utf-?8"?$/.test(charset))) throw unsupportedMediaType();
}

function check<S extends z.ZodType>(schema: S, value: unknown, whole: string): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw badRequest(fieldErrors(parsed.error, whole));
}

/** The issues of a zod error as fields; `whole` is the path of an issue that is about all of it. At most 50, so that an answer stays small. */
export function fieldErrors(error: z.ZodError, whole = "body"): FieldError[] {
  const found: FieldError[] = [];
  for (const issue of error.issues) {
    const path = issue.path.map(String).join(".");
    if (issue.code === "unrecognized_keys") {
      for (const key of issue.keys)
        found.push({ path: (path ? `${path}.${key}` : key).slice(0, 200), message: "is not a known field" });
    } else {
      const missing =
        issue.code === "invalid_type" && issue.input === undefined && /received undefined/.test(issue.message);
      found.push({ path: path.slice(0, 200) || whole, message: missing ? "is needed" : issue.message });
    }
    if (found.length >= 50) break;
  }
  return found.slice(0, 50);
}
