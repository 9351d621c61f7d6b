import { createApi, finishApi, identify, type Logger } from "@quartet/service";
import type { Express } from "express";
import { addInternalRoutes, type InternalRoutesOptions } from "./internal.ts";
import { addUserRoutes, type UserRoutesOptions } from "./users.ts";

const IMPORT_BYTES = 16 * 1024 * 1024;

/** The HTTP face of User. */
export function createApp(options: UserRoutesOptions & InternalRoutesOptions & { logger: Logger }): Express {
  const app = createApi({
    name: "user",
    logger: options.logger,
    admit: identify(options.keyring),
    bodyLimitBytes: (_method, path) => (path.startsWith("/internal/import") ? IMPORT_BYTES : 64 * 1024),
  });
  addInternalRoutes(app, options);
  addUserRoutes(app, options);
  return finishApi(app);
}
