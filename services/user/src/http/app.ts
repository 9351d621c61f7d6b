import { createApi, finishApi, HttpProblem, identify, type Logger } from "@quartet/service";
import type { Express } from "express";
import { addInternalRoutes, type InternalRoutesOptions } from "./internal.ts";
import { addUserRoutes, type UserRoutesOptions } from "./users.ts";

const IMPORT_BYTES = 16 * 1024 * 1024;

/** What shows people, or lets them in. */
const ABOUT_PEOPLE = /^\/(v1|internal\/(credentials|import|repair))(\/|$)/;

export interface AppOptions extends UserRoutesOptions, InternalRoutesOptions {
  logger: Logger;
  /** The database was restored, and may still hold people who were erased since. */
  isLearning(): boolean;
}

/** The HTTP face of User. */
export function createApp(options: AppOptions): Express {
  const app = createApi({
    name: "user",
    logger: options.logger,
    admit: identify(options.keyring),
    bodyLimitBytes: (_method, path) => (path.startsWith("/internal/import") ? IMPORT_BYTES : 64 * 1024),
  });
  app.use((req, _res, next) => {
    if (!options.isLearning() || !ABOUT_PEOPLE.test(req.path)) return next();
    const detail = "the database was restored, and has yet to learn who was erased since";
    throw new HttpProblem(503, { slug: "restoring", detail, headers: { "Retry-After": "1" } });
  });
  addInternalRoutes(app, options);
  addUserRoutes(app, options);
  return finishApi(app);
}
