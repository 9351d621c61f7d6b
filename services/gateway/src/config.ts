import { commonConfig } from "@quartet/service";
import { z } from "zod";
import { limitsConfig } from "./http/limits.ts";

const baseUrl = z.url({ protocol: /^https?$/, error: "must be an http URL" });

/** The settings of the gateway process. It has one role, `api`; `ROLE` is accepted and makes no difference. */
export const gatewayConfig = z.object({
  ...commonConfig(8080),
  USER_URL: baseUrl,
  SESSION_URL: baseUrl,
  ANALYTICS_URL: baseUrl,
  SEARCH_URL: baseUrl,
  ...limitsConfig,
  /** Bytes of request bodies that are held at the same time; one client but the operator may have a quarter. */
  MAX_BUFFERED_BYTES: z.coerce
    .number()
    .int()
    .min(1024 * 1024)
    .default(64 * 1024 * 1024),
  /** Bytes of the services' answers that are held at the same time, until they are passed on; one client but the operator may have a quarter. */
  MAX_BUFFERED_ANSWER_BYTES: z.coerce
    .number()
    .int()
    .min(1024 * 1024)
    .default(64 * 1024 * 1024),
  /** How many proxies stand before it, or their addresses and nets: only they are believed in `X-Forwarded-For`. Default: none. */
  TRUST_PROXY: z
    .string()
    .regex(
      /^(\d{1,2}|[0-9a-fA-F.:/, ]{2,1000})$/,
      "must be a number of proxies, or addresses and nets with commas between",
    )
    .transform((text) => (/^\d{1,2}$/.test(text) ? Number(text) : text.split(",").map((part) => part.trim())))
    .optional(),
  /** Reads that wait (`Prefer: wait`), of everybody and of one client. One more is answered at once. */
  MAX_WAITING: z.coerce.number().int().min(1).max(10_000).default(500),
  MAX_WAITING_PER_CLIENT: z.coerce.number().int().min(1).max(10_000).default(100),
  /** Searches and questions of one client that are under way at the same time; more wait for their turn. */
  MAX_CONCURRENT_PER_CLIENT: z.coerce.number().int().min(1).max(1000).default(8),
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
