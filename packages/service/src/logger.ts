import { type Logger, pino } from "pino";
import { currentTrace } from "./tracing.ts";

export type { Logger } from "pino";

const secret = ["password", "token", "email", "login", "authorization", "cookie", "passwordHash", "secret"];
const paths = secret.flatMap((key) => [key, `*.${key}`, `*.*.${key}`, `*.*.*.${key}`]);

/**
 * JSON lines on stdout with the service's name and the ids of the current trace. Fields named like secrets or like personal data
 * (password, token, email, login, authorization...) are censored down to three levels; do not log bodies all the same.
 */
export function createLogger(service: string, level = process.env.LOG_LEVEL ?? "info"): Logger {
  return pino({
    level,
    base: { service },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: { paths, censor: "[redacted]" },
    mixin: () => currentTrace() ?? {},
  });
}
