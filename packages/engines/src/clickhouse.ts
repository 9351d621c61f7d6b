import { createHash } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ClickHouseLogLevel, createClient } from "@clickhouse/client";
import { checkRuntime } from "./clients.ts";
import { type EngineLaunch, type EngineOptions, LocalEngine } from "./engine.ts";
import { EngineStartError } from "./errors.ts";

const LAUNCHER = fileURLToPath(new URL("./clickhouse-launcher.py", import.meta.url));

/** Small caches and pools: a laptop, not a cluster. */
const SETTINGS = [
  "<max_server_memory_usage>1000000000</max_server_memory_usage>",
  "<mark_cache_size>67108864</mark_cache_size>",
  "<index_mark_cache_size>16777216</index_mark_cache_size>",
  "<uncompressed_cache_size>0</uncompressed_cache_size>",
  "<mmap_cache_size>0</mmap_cache_size>",
  "<timezone>UTC</timezone>",
];

/**
 * What the analytics service may do: everything in `analytics` and in databases named `analytics_...` (which tests make and drop), nothing
 * elsewhere. ClickHouse grants table engines apart from tables.
 */
const SERVICE_GRANTS = [
  "GRANT ALL ON analytics.*",
  "GRANT ALL ON analytics_*.*",
  "GRANT TABLE ENGINE ON *",
  "GRANT SELECT ON system.*",
];

/** The engine of the default schema of ClickHouse's own metadata; without it system tables are lost at a restart. */
const SYSTEM_DATABASE = "ATTACH DATABASE _ UUID '5f1b3a52-6c0e-4d52-9e0a-3d5f1a8c7b21'\nENGINE = Atomic\n";

function userXml(name: string, password: string | undefined, grants?: string[]): string {
  const secret =
    password === undefined
      ? "<password/>"
      : `<password_sha256_hex>${createHash("sha256").update(password).digest("hex")}</password_sha256_hex>`;
  const list = grants ? `<grants>${grants.map((grant) => `<query>${grant}</query>`).join("")}</grants>` : "";
  const common = "<networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>";
  return `<${name}>${secret}${common}${list}</${name}>`;
}

/**
 * ClickHouse's real server handlers over HTTP, out of libchdb.so (see clickhouse-launcher.py). `analytics_service` owns the database
 * `analytics`; the passwordless `default` user, which the console needs, may do nothing but start the listeners.
 */
export class ClickHouseEngine extends LocalEngine {
  readonly name = "clickhouse";
  protected readonly defaultPort = 8123;

  constructor(options: EngineOptions) {
    super("clickhouse", options);
  }

  get url(): string {
    return `http://admin:${this.credentials.clickhouse.admin}@127.0.0.1:${this.port}`;
  }

  urlFor(service: string): string {
    if (service !== "analytics") return this.refuse(service);
    return `http://analytics_service:${this.credentials.clickhouse.analytics_service}@127.0.0.1:${this.port}/analytics`;
  }

  protected async prepare(folder: string): Promise<EngineLaunch> {
    checkRuntime(this.name);
    const data = join(this.dir, "data");
    const system = join(data, "metadata", "system.sql");
    mkdirSync(join(data, "metadata"), { recursive: true, mode: 0o700 });
    if (!existsSync(system)) writeFileSync(system, SYSTEM_DATABASE);
    const users = join(this.dir, "users.xml");
    const config = join(this.dir, "config.xml");
    const { admin, analytics_service } = this.credentials.clickhouse;
    const accounts = [
      userXml("default", undefined, ["GRANT SYSTEM LISTEN ON *.*"]),
      userXml("admin", admin),
      userXml("analytics_service", analytics_service, SERVICE_GRANTS),
    ].join("\n");
    writeFileSync(
      users,
      `<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users>\n${accounts}\n</users></clickhouse>\n`,
      { mode: 0o600 },
    );
    const listen = `<listen_host>127.0.0.1</listen_host><http_port>${this.port}</http_port>`;
    const where = `<users_config>${users}</users_config><tmp_path>${join(this.dir, "tmp")}/</tmp_path>`;
    writeFileSync(config, `<clickhouse>${listen}${where}\n${SETTINGS.join("\n")}\n</clickhouse>\n`, { mode: 0o600 });
    const command = ["python3", LAUNCHER, join(folder, "libchdb.so"), config, data];
    // Without the cap on arenas, glibc keeps tens of megabytes per thread.
    return { command, env: { MALLOC_ARENA_MAX: "2" } };
  }

  protected async probe(): Promise<void> {
    const client = createClient({ url: this.url, request_timeout: 1_500, log: { level: ClickHouseLogLevel.OFF } });
    try {
      const rows = await client.query({ query: "SELECT 1", format: "JSONEachRow" });
      await rows.json();
    } catch (error) {
      // It goes on without listeners when it cannot have the port.
      if (/Address already in use/i.test(this.logSinceStart())) {
        throw new EngineStartError(`clickhouse: port ${this.port} is taken (address already in use)`, "");
      }
      throw error;
    } finally {
      await client.close();
    }
  }

  protected override async provision(): Promise<void> {
    const client = createClient({ url: this.url, request_timeout: 10_000 });
    try {
      await client.command({ query: "CREATE DATABASE IF NOT EXISTS analytics" });
    } finally {
      await client.close();
    }
  }
}
