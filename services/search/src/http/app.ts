import { createApi, finishApi, identify, type Keyring, type Logger } from "@quartet/service";
import type { Express } from "express";
import type { SearchContext } from "./context.ts";
import { addInternalRoutes, type InternalOptions } from "./internal.ts";
import { addSearchRoutes } from "./search.ts";

/** The HTTP face of Search. */
export function createApp(
  context: SearchContext,
  options: InternalOptions & { logger: Logger; keyring: Keyring },
): Express {
  const app = createApi({ name: "search", logger: options.logger, admit: identify(options.keyring) });
  addInternalRoutes(app, context, options);
  addSearchRoutes(app, { ...context, keyring: options.keyring });
  return finishApi(app);
}
