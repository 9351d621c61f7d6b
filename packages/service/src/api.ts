import { randomUUID } from "node:crypto";
import { context } from "@opentelemetry/api";
import express, { type Express, type NextFunction, type Request, type Response } from "express";
import { z } from "zod";
import { BodyBudget, bufferBody, dropBody, fieldErrors } from "./body.ts";
import type { Logger } from "./logger.ts";
import { type Metrics, metrics as processMetrics } from "./metrics.ts";
import { badRequest, HttpProblem, notFound } from "./problem.ts";
import { allowedMethods } from "./routes.ts";
import { SpanKind, SpanStatusCode, withTraceparent } from "./tracing.ts";

export interface ApiOptions {
  /** The service's name: the `service` label of the metrics. */
  name: string;
  /** Largest body, in bytes; or a function of method and path. Default 64 KiB. */
  bodyLimitBytes?: number | ((method: string, path: string) => number);
  logger: Logger;
  metrics?: Metrics;
  /** Called first for every request, to set headers that every answer carries. */
  prepare?: (req: Request, res: Response) => void;
  /** Called before anything of a body is read, by the headers alone: rejects with why this caller may not send one. */
  admit?: (req: Request, res: Response) => Promise<void> | void;
  /** Bytes of bodies that the process holds at the same time. Default 64 MiB. */
  bufferedBytes?: number;
  /** Whose body it is, where one client may have no more than a quarter of that; undefined: not bounded by itself. */
  clientOf?: (req: Request) => string | undefined;
}

const requestIds = new WeakMap<Request, string>();
const loggers = new WeakMap<Express, Logger>();
const validRequestId = /^[A-Za-z0-9._~:+/=-]{1,128}$/;

/**
 * An express app with what every API of ours has: request id, trace, access log, RED metrics by route pattern, a bounded body. Add routes
 * (their handlers may be async and throw), then call `finishApi`. Bodies are read before routing and parsed by `parseBody`.
 */
export function createApi(options: ApiOptions): Express {
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");
  app.set("query parser", "simple");
  app.set("case sensitive routing", true);
  loggers.set(app, options.logger);
  const limitOf =
    typeof options.bodyLimitBytes === "function"
      ? options.bodyLimitBytes
      : () => (options.bodyLimitBytes as number | undefined) ?? 64 * 1024;
  const observe = observer(options);
  const inFlight = (options.metrics ?? processMetrics).gauge("quartet_http_requests_in_flight").labels(options.name);
  inFlight.set(0);
  const budget = new BodyBudget(options.bufferedBytes ?? 64 * 1024 * 1024);
  (options.metrics ?? processMetrics).gauge("quartet_request_bodies_bytes", (gauge) =>
    gauge.labels(options.name).set(budget.bytes),
  );

  app.use((req: Request, res: Response, next: NextFunction) => {
    const given = req.headers["x-request-id"];
    const id = typeof given === "string" && validRequestId.test(given) ? given : randomUUID();
    requestIds.set(req, id);
    res.setHeader("X-Request-Id", id);
    options.prepare?.(req, res);
    const traceparent = req.headers.traceparent;
    withTraceparent(
      typeof traceparent === "string" ? traceparent : undefined,
      `${req.method} ${options.name}`,
      (span) =>
        new Promise<void>((ended) => {
          const here = context.active();
          const start = performance.now();
          inFlight.inc();
          res.once("close", () =>
            context.with(here, () => {
              inFlight.dec();
              const route = patternOf(req);
              observe(req, res, route, performance.now() - start);
              span.updateName(`${req.method} ${route}`);
              span.setAttributes({
                "http.request.method": req.method,
                "http.route": route,
                "http.response.status_code": res.statusCode,
              });
              if (res.statusCode >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
              ended();
            }),
          );
          next();
        }),
      SpanKind.SERVER,
    );
  });

  app.use((req: Request, res: Response, next: NextFunction) => {
    const path = pathOf(req.url);
    try {
      decodeURIComponent(path);
    } catch {
      return next(badRequest({ path: "path", message: "has a malformed percent-encoding" }));
    }
    const read = async (): Promise<void> => {
      try {
        await options.admit?.(req, res);
      } catch (error) {
        // Whoever is still writing gets to read the answer.
        dropBody(req);
        throw error;
      }
      await bufferBody(req, limitOf(req.method, path), budget, options.clientOf?.(req));
    };
    read().then(() => next(), next);
  });
  return app;
}

/**
 * Ends the app: unknown path 404, known path with another method 405 with `Allow`, and every error as a problem. HttpProblem as it says; a stray
 * zod error 400; anything else 500 without internals, logged with its stack. Call it after the last route.
 */
export function finishApi(app: Express, logger = loggers.get(app)): Express {
  app.use((req: Request, res: Response, next: NextFunction) => {
    const allowed = allowedMethods(app, pathOf(req.url));
    if (allowed.length === 0) return next(notFound(`there is no ${pathOf(req.url).slice(0, 200)}`));
    res.setHeader("Allow", allowed.join(", "));
    if (req.method === "OPTIONS") return void res.status(204).end();
    next(new HttpProblem(405, { detail: `${req.method} is not possible here` }));
  });
  app.use((error: unknown, req: Request, res: Response, _next: NextFunction) => {
    const problem = toProblem(error);
    const told = { requestId: requestIdOf(req), method: req.method, path: pathOf(req.url), status: problem.status };
    if (problem.status === 500) logger?.error({ ...told, err: error }, "request failed");
    else if (problem.status > 500)
      logger?.warn({ ...told, reason: reasonOf(problem) }, problem.detail ?? problem.title);
    if (res.headersSent) return void res.destroy();
    sendProblem(req, res, problem);
  });
  return app;
}

/** Writes a problem as the answer. */
function sendProblem(req: Request, res: Response, problem: HttpProblem): void {
  for (const name of ["Content-Length", "Content-Type", "ETag", "Last-Modified", "Location"]) res.removeHeader(name);
  for (const [name, value] of Object.entries(problem.headers)) res.setHeader(name, value);
  const body = Buffer.from(JSON.stringify(problem.toJSON(pathOf(req.originalUrl).slice(0, 500))));
  res.statusCode = problem.status;
  res.setHeader("Content-Type", "application/problem+json; charset=utf-8");
  res.setHeader("Cache-Control", "no-store");
  res.setHeader("Content-Length", body.length);
  res.end(req.method === "HEAD" ? undefined : body);
}

/** The id of this request: the caller's if it was valid, else our own. */
export function requestIdOf(req: Request): string {
  return requestIds.get(req) ?? "-";
}

function toProblem(error: unknown): HttpProblem {
  if (error instanceof HttpProblem) return error;
  if (error instanceof z.ZodError) return badRequest(fieldErrors(error));
  const status = (error as { status?: unknown } | null)?.status;
  // express's own: a malformed path parameter and the like
  if (error instanceof Error && typeof status === "number" && status >= 400 && status < 500)
    return new HttpProblem(status);
  return new HttpProblem(500, { detail: "something went wrong on our side", cause: error });
}

function reasonOf(problem: HttpProblem): string | undefined {
  return problem.cause instanceof Error ? `${problem.cause.name}: ${problem.cause.message}`.slice(0, 500) : undefined;
}

function observer(options: ApiOptions) {
  const registry = options.metrics ?? processMetrics;
  const seconds = registry.histogram("quartet_http_request_duration_seconds");
  return (req: Request, res: Response, route: string, ms: number): void => {
    // 499 as nginx has it: the client went away before the answer was complete
    const status = res.writableFinished ? res.statusCode : 499;
    seconds.observe(
      { service: options.name, method: methodLabel(req.method), route, status: String(status) },
      ms / 1000,
    );
    const fields = {
      requestId: requestIdOf(req),
      method: req.method,
      path: pathOf(req.originalUrl).slice(0, 200),
      route,
      status,
      ms: Math.round(ms * 10) / 10,
    };
    // what a console asks several times a second for as long as it is open is no news
    options.logger[route === "/internal/activity" ? "debug" : "info"](fields, "request");
  };
}

const methods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
const methodLabel = (method: string): string => (methods.has(method) ? method : "other");

function patternOf(req: Request): string {
  const path = (req.route as { path?: unknown } | undefined)?.path;
  return typeof path === "string" ? `${req.baseUrl}${path}` : "unmatched";
}

function pathOf(url: string): string {
  const end = url.indexOf("?");
  return end < 0 ? url : url.slice(0, end);
}
