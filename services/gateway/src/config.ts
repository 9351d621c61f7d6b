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
});
export type GatewayConfig = z.infer<typeof gatewayConfig>;
