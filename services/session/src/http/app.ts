import { createApi, finishApi, identify, type Logger } from "@quartet/service";
import type { Express } from "express";
import { type InternalRoutes, internalRoutes } from "./internal.ts";
import { type SessionRoutes, sessionRoutes } from "./sessions.ts";

/** The HTTP face of Session. */
export function createApp(deps: SessionRoutes & InternalRoutes & { logger: Logger }): Express {
  const app = createApi({ name: "session", logger: deps.logger, admit: identify(deps.keyring) });
  internalRoutes(app, deps);
  sessionRoutes(app, deps);
  return finishApi(app);
}
