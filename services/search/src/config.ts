import { commonConfig, waitersConfig } from "@quartet/service";
import { z } from "zod";

/** The settings of this service, from the environment. */
export const configSchema = z.object({
  ...commonConfig(8084),
  ...waitersConfig,
  ELASTICSEARCH_URL: z.string().regex(/^https?:\/\//, "must begin with http:// or https://"),
  NATS_URL: z.string().regex(/^(nats|tls):\/\//, "must begin with nats:// or tls://"),
  /** In front of every index name, so that several systems can share a cluster. */
  INDEX_PREFIX: z
    .string()
    .regex(/^[a-z0-9-]*$/, "only a-z, 0-9 and -")
    .default(""),
  /** Copies of each shard beside the first. */
  INDEX_REPLICAS: z.coerce.number().int().min(0).max(5).default(0),
  /** The projector refreshes with its batches; this is for what else is written, and for the last of a long backlog. */
  REFRESH_INTERVAL: z
    .string()
    .regex(/^\d+(ms|s)$/, "must be a time such as 250ms")
    .default("250ms"),
  /** For how long, in milliseconds, a new process exercises Elasticsearch before it says that it is ready. 0: not at all. */
  WARM_UP_MS: z.coerce.number().int().min(0).max(60_000).default(0),
});
