import { readFileSync } from "node:fs";

/** The five engines, by the name used everywhere: folders, environment variables, log files. */
export const ENGINE_NAMES = ["postgres", "redis", "clickhouse", "elasticsearch", "nats"] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

/** Variable by which an engine that already runs elsewhere is brought in instead of a local one. */
export const ENGINE_URL_VARIABLES: Record<EngineName, string> = {
  postgres: "POSTGRES_URL",
  redis: "REDIS_URL",
  clickhouse: "CLICKHOUSE_URL",
  elasticsearch: "ELASTICSEARCH_URL",
  nats: "NATS_URL",
};

export type Platform = "linux-x64" | "linux-arm64" | "darwin-x64" | "darwin-arm64";

/** This machine in the notation of the artefact table, e.g. `linux-x64`, or `win32-x64`, for which there is nothing. */
export function currentPlatform(): string {
  return `${process.platform}-${process.arch}`;
}

/** True where the C library is musl (Alpine): the published ClickHouse, PostgreSQL and Redis builds need glibc. */
export function isMusl(): boolean {
  if (process.platform !== "linux") return false;
  try {
    return !readFileSync("/usr/bin/ldd", "latin1").includes("GNU");
  } catch {
    return false;
  }
}
