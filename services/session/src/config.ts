import { commonConfig, waitersConfig } from "@quartet/service";
import { z } from "zod";
import { redisTarget } from "./store/target.ts";

const seconds = z.coerce.number().int().min(1);

/** The settings of this service, from the environment. */
export const configSchema = z
  .object({
    ...commonConfig(8082),
    ...waitersConfig,
    REDIS_URL: z.string().superRefine((url, context) => {
      try {
        redisTarget(url);
      } catch (error) {
        context.addIssue({ code: "custom", message: (error as Error).message });
      }
    }),
    NATS_URL: z.string().regex(/^(nats|tls):\/\//, "must begin with nats:// or tls://"),
    USER_URL: z.url(),
    /** A session that is not used for so long ends. */
    SESSION_TTL_SECONDS: seconds.default(24 * 3600),
    /** No session lasts longer, however much it is used. */
    SESSION_MAX_SECONDS: seconds.default(30 * 24 * 3600),
    /** Sessions one person may have at a time; the oldest ends when there is one more. */
    SESSIONS_PER_USER: z.coerce.number().int().min(1).max(10_000).default(100),
    /** How long a relayed event stays in the outbox, to be sent again if the stream lost it. */
    OUTBOX_RETENTION_SECONDS: seconds.default(3600),
  })
  .refine((c) => c.SESSION_MAX_SECONDS >= c.SESSION_TTL_SECONDS, {
    path: ["SESSION_MAX_SECONDS"],
    message: "must not be less than SESSION_TTL_SECONDS",
  });
