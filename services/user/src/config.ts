import { parseStoreSize } from "@quartet/contracts";
import { backupsConfig, commonConfig } from "@quartet/service";
import { z } from "zod";

/** The settings of this service, from the environment. */
export const configSchema = z.object({
  ...commonConfig(8081),
  ...backupsConfig,
  POSTGRES_URL: z.string().regex(/^postgres(ql)?:\/\//, "must begin with postgres://"),
  NATS_URL: z.string().regex(/^(nats|tls):\/\//, "must begin with nats:// or tls://"),
  SESSION_URL: z.url(),
  ANALYTICS_URL: z.url(),
  SEARCH_URL: z.url(),
  /** Whole UTC days for which published events stay republishable. */
  OUTBOX_RETENTION_DAYS: z.coerce.number().int().min(1).max(90).default(3),
  /** How often the read models are compared with the users. 0: only when somebody asks. */
  AUDIT_INTERVAL_MS: z.coerce.number().int().min(0).default(30_000),
  /** Replicas of each stream: 3 on a NATS cluster. */
  NATS_REPLICAS: z.coerce.number().int().min(1).max(5).default(1),
  /** What JetStream may store, as NATS says it (`7GB`, or bytes): its `max_file_store`. Each stream gets its share. */
  NATS_STORE_BYTES: z
    .string()
    .default("7GB")
    .transform((text, ctx) => {
      const bytes = parseStoreSize(text) ?? 0;
      if (bytes < 16 * 1024 ** 2) ctx.addIssue({ code: "custom", message: "must be a size of 16MB or more, e.g. 7GB" });
      return bytes;
    }),
});
