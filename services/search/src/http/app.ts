import { createApi, finishApi, identityMiddleware, type Logger } from "@quartet/service";
import type { Express } from "express";
import type { SearchContext } from "./context.ts";
import { addInternalRoutes, type InternalOptions } from "./internal.ts";
import { addSearchRoutes } from "./search.ts";

/** The HTTP face of Search. */
export function createApp(
  context: SearchContext,
  options: InternalOptions & { logger: Logger; secret: string },
): Express {
  const app = createApi({ name: "search", logger: options.logger });
  app.use(identityMiddleware({ service: "search", secret: options.secret }));
  addInternalRoutes(app, context, options);
  addSearchRoutes(app, { ...context, secret: options.secret });
  return finishApi(app);
}
