import { commonConfig, waitersConfig } from "@quartet/service";
import { z } from "zod";

/** The settings of this service, from the environment. */
export const configSchema = z.object({
  ...commonConfig(8083),
  ...waitersConfig,
  CLICKHOUSE_URL: z.string().regex(/^https?:\/\//, "must begin with http:// or https://"),
  NATS_URL: z.string().regex(/^(nats|tls):\/\//, "must begin with nats:// or tls://"),
  /** Queries of this process that run at the same time; more wait in line. */
  QUERY_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(4),
  /** Most memory one query may use. */
  QUERY_MEMORY_MIB: z.coerce.number().int().min(32).default(512),
  /** How often the facts are compared with the stream and the ledger. 0: only when somebody asks. */
  AUDIT_INTERVAL_MS: z.coerce.number().int().min(0).default(15_000),
});
export type Config = z.infer<typeof configSchema>;
