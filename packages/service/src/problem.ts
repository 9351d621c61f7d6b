import { STATUS_CODES } from "node:http";

/** One field that was refused: `path` names it with dots (`tags.3`), `body`, `query` or a header for the whole. */
export interface FieldError {
  path: string;
  message: string;
}

/** What may be given to a problem beside its status. */
export interface ProblemOptions {
  detail?: string | undefined;
  title?: string;
  /** A short kebab-case name; becomes `urn:quartet:problem:<slug>`. */
  slug?: string;
  errors?: FieldError[];
  headers?: Record<string, string>;
  cause?: unknown;
  /** The dependency that did not answer, for a 503. */
  dependency?: string;
}

/**
 * An answer that is not a success, thrown wherever it is noticed and turned into RFC 9457 `application/problem+json` by `finishApi`.
 * What it carries is shown to the caller: put internals into `cause`, which is only logged.
 */
export class HttpProblem extends Error {
  override name = "HttpProblem";
  readonly status: number;
  readonly title: string;
  readonly detail: string | undefined;
  readonly type: string;
  readonly errors: FieldError[] | undefined;
  readonly headers: Record<string, string>;
  readonly dependency: string | undefined;

  constructor(status: number, options: ProblemOptions = {}) {
    const title = options.title ?? STATUS_CODES[status] ?? "Problem";
    super(options.detail ?? title, options.cause === undefined ? undefined : { cause: options.cause });
    this.status = status;
    this.title = title;
    this.detail = options.detail;
    this.type = `urn:quartet:problem:${options.slug ?? title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
    this.errors = options.errors;
    this.headers = options.headers ?? {};
    this.dependency = options.dependency;
  }

  /** The members of RFC 9457; `instance` is the path of the request. */
  toJSON(instance?: string): Record<string, unknown> {
    return {
      type: this.type,
      title: this.title,
      status: this.status,
      detail: this.detail ?? this.title,
      ...(instance === undefined ? {} : { instance }),
      ...(this.errors === undefined ? {} : { errors: this.errors }),
    };
  }
}

const list = (errors: FieldError | FieldError[]): FieldError[] => (Array.isArray(errors) ? errors : [errors]);
const sentence = (errors: FieldError[]): string =>
  errors
    .map((e) => `${e.path}: ${e.message}`)
    .join("; ")
    .slice(0, 1000);

/** 400: the input is wrong; names every field. */
export function badRequest(errors: FieldError | FieldError[]): HttpProblem {
  return new HttpProblem(400, { detail: sentence(list(errors)), errors: list(errors) });
}

/** 401: no identity, or one that is not valid. */
export function unauthorized(detail = "a valid bearer token is needed"): HttpProblem {
  return new HttpProblem(401, { detail, headers: { "WWW-Authenticate": "Bearer" } });
}

/** 403: the identity is known and may not do this. */
export function forbidden(detail = "this is not yours"): HttpProblem {
  return new HttpProblem(403, { detail });
}

/** 404. */
export function notFound(detail = "there is nothing here"): HttpProblem {
  return new HttpProblem(404, { detail });
}

/** 409: `errors` names the fields that are taken. */
export function conflict(errors: FieldError | FieldError[]): HttpProblem {
  return new HttpProblem(409, { detail: sentence(list(errors)), errors: list(errors) });
}

/** 412: the `If-Match` of the request is not the current revision. */
export function preconditionFailed(detail = "the revision in If-Match is not the current one"): HttpProblem {
  return new HttpProblem(412, { detail });
}

/** 422: well-formed, yet it contradicts something the server already knows (an idempotency key used for another body). */
export function unprocessable(detail: string, errors?: FieldError[]): HttpProblem {
  return new HttpProblem(422, { title: "Unprocessable Content", detail, ...(errors ? { errors } : {}) });
}

/** 413: the body is larger than `limitBytes`. */
export function tooLarge(limitBytes: number): HttpProblem {
  const detail = `the body is larger than ${limitBytes} bytes`;
  return new HttpProblem(413, { title: "Content Too Large", detail, errors: [{ path: "body", message: detail }] });
}

/** 415: the body is not UTF-8 JSON. */
export function unsupportedMediaType(detail = "the body must be application/json in UTF-8"): HttpProblem {
  return new HttpProblem(415, { detail, errors: [{ path: "Content-Type", message: detail }] });
}

/** 429 with `Retry-After` in whole seconds, at least 1. */
export function tooManyRequests(retryAfterSeconds: number, detail = "too many attempts, wait a little"): HttpProblem {
  return new HttpProblem(429, { detail, headers: retryAfter(retryAfterSeconds) });
}

/** 503 with `Retry-After`: `dependency` (a store, a peer, a queue) did not answer in time. Safe to try again. */
export function unavailable(dependency: string, retryAfterSeconds = 1, cause?: unknown): HttpProblem {
  return new HttpProblem(503, {
    detail: `${dependency} does not answer at the moment`,
    slug: "dependency-unavailable",
    headers: retryAfter(retryAfterSeconds),
    dependency,
    cause,
  });
}

function retryAfter(seconds: number): Record<string, string> {
  return { "Retry-After": String(Math.max(1, Math.ceil(seconds))) };
}
