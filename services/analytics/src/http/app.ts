import { createApi, finishApi, identify, type Keyring, type Logger } from "@quartet/service";
import type { Express } from "express";
import { addAnalyticsRoutes } from "./analytics.ts";
import { addInternalRoutes, type InternalOptions } from "./internal.ts";
import { addTrackRoute, type TrackOptions } from "./track.ts";

const TRACK_BYTES = 1024 * 1024;

/** The HTTP face of Analytics. */
export function createApp(options: InternalOptions & TrackOptions & { logger: Logger; keyring: Keyring }): Express {
  const app = createApi({
    name: "analytics",
    logger: options.logger,
    admit: identify(options.keyring),
    bodyLimitBytes: (_method, path) => (path === "/v1/track" || path === "/internal/erased" ? TRACK_BYTES : 64 * 1024),
  });
  addInternalRoutes(app, options);
  addTrackRoute(app, options);
  addAnalyticsRoutes(app, options);
  return finishApi(app);
}
