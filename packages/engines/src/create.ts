import { ClickHouseEngine } from "./clickhouse.ts";
import { ElasticsearchEngine } from "./elasticsearch.ts";
import type { Engine, EngineOptions } from "./engine.ts";
import { NatsEngine } from "./nats.ts";
import type { EngineName } from "./platform.ts";
import { PostgresEngine } from "./postgres.ts";
import { RedisEngine } from "./redis.ts";

/** An engine as a local process, not yet started. See `Engine` for what can be done with it. */
export function createEngine(name: EngineName, options: EngineOptions): Engine {
  switch (name) {
    case "postgres":
      return new PostgresEngine(options);
    case "redis":
      return new RedisEngine(options);
    case "nats":
      return new NatsEngine(options);
    case "clickhouse":
      return new ClickHouseEngine(options);
    case "elasticsearch":
      return new ElasticsearchEngine(options);
  }
}
