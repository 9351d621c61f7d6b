import { backupsConfig, commonConfig, waitersConfig } from "@quartet/service";
import { z } from "zod";

/** The settings of this service, from the environment. */
export const configSchema = z.object({
  ...commonConfig(8083),
  ...waitersConfig,
  ...backupsConfig,
  CLICKHOUSE_URL: z.string().regex(/^https?:\/\//, "must begin with http:// or https://"),
  NATS_URL: z.string().regex(/^(nats|tls):\/\//, "must begin with nats:// or tls://"),
  /** Questions of this process that run at the same time; more wait in line. Two fill two cores, and more would only slow each other down. */
  QUERY_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(2),
  /** The same for questions over long ranges, which stand still while others run. */
  HEAVY_QUERY_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(1),
  /** Most memory a question over a long range may use; another may use half of it. All lanes full it has to be less than the server has. */
  QUERY_MEMORY_MIB: z.coerce.number().int().min(64).default(384),
  /** How often the facts are compared with the stream and the ledger. 0: only when somebody asks. */
  AUDIT_INTERVAL_MS: z.coerce.number().int().min(0).default(15_000),
});
