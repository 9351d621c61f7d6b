import { identityKeys, identityPublicKeys } from "@quartet/contracts";
import { z } from "zod";

/** A TCP port given as text. */
export const port = z.coerce.number().int().min(0).max(65_535);

/** By what a process is known, and knows others. */
export const identityConfig = {
  /** The service's own Ed25519 keys, as a JWK set; the first one signs. */
  IDENTITY_KEYS: identityKeys,
  /** The public keys of all services, as JWK sets by service. */
  IDENTITY_PUBLIC_KEYS: identityPublicKeys,
};

/** What every process reads; spread it into the service's own schema: `z.object({ ...commonConfig(8081), POSTGRES_URL: z.string() })`. */
export function commonConfig(defaultPort: number) {
  return {
    HOST: z.string().min(1).default("127.0.0.1"),
    PORT: port.default(defaultPort),
    /** `PORT` + 1000 unless set. */
    ADMIN_PORT: port.optional(),
    LOG_LEVEL: z.enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"]).default("info"),
    /** How long a process still serves after it was told to end: until those who send to it have learnt that it does. */
    DRAIN_MS: z.coerce.number().int().min(0).max(60_000).default(0),
    ...identityConfig,
    ROLE: z.enum(["api", "relay", "projector", "all"]).default("all"),
    OTEL_EXPORTER_OTLP_ENDPOINT: z.url().optional(),
  };
}

/** What every service reads whose readers wait (see createWaiters). */
export const waitersConfig = {
  /** Reads with a consistency token that may wait at the same time; one more is answered at once, as stale. */
  MAX_WAITING: z.coerce.number().int().min(1).max(100_000).default(500),
};

/** Thrown by `parseConfig`; the message has one line per bad variable. */
class ConfigError extends Error {
  override name = "ConfigError";
}

/** Reads the environment through `schema`. An empty variable counts as absent. Throws ConfigError; never shows a value. */
export function parseConfig<S extends z.ZodType>(schema: S, env: NodeJS.ProcessEnv = process.env): z.output<S> {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ""));
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map((issue) => {
    const name = issue.path.join(".") || "environment";
    return given[String(issue.path[0])] === undefined && issue.code === "invalid_type"
      ? `${name} is not set`
      : `${name}: ${issue.message}`;
  });
  throw new ConfigError(lines.join("\n"));
}

/** `parseConfig`, for the top of a main file: a bad variable is one line on stderr and exit code 1. */
export function loadConfig<S extends z.ZodType>(schema: S, env: NodeJS.ProcessEnv = process.env): z.output<S> {
  try {
    return parseConfig(schema, env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message.replace(/^/gm, "configuration: ")}\n`);
    process.exit(1);
  }
}
