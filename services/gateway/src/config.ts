import { commonConfig } from "@quartet/service";
import { z } from "zod";

const baseUrl = z.url({ protocol: /^https?$/, error: "must be an http URL" });

/** The settings of the gateway process. It has one role, `api`; `ROLE` is accepted and makes no difference. */
export const gatewayConfig = z.object({
  ...commonConfig(8080),
  USER_URL: baseUrl,
  SESSION_URL: baseUrl,
  ANALYTICS_URL: baseUrl,
  SEARCH_URL: baseUrl,
  QUARTET_OPERATOR_TOKEN: z.string().min(16, "needs at least 16 characters"),
  /**
   * The live part of the page at `/`. `off`: it is not there. `operator`: for whoever has the token (the console's own, else the operator's). `local`:
   * anybody on this machine may watch, only who has the console's token may act.
   */
  QUARTET_CONSOLE: z.enum(["off", "operator", "local"]).default("off"),
  QUARTET_CONSOLE_TOKEN: z.string().min(16, "needs at least 16 characters").optional(),
  /** Where the supervisor of a local system takes orders, and the secret that it asks for. */
  QUARTET_CONTROL_URL: baseUrl.optional(),
  QUARTET_CONTROL_SECRET: z.string().min(32, "needs at least 32 characters").optional(),
});
export type GatewayConfig = z.infer<typeof gatewayConfig>;
