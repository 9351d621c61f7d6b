import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { type EngineLaunch, type EngineOptions, LocalEngine } from "./engine.ts";
import { EngineStartError } from "./errors.ts";
import { ownForDroppedRoot } from "./privileges.ts";
import { identify, killTree, waitForDeath } from "./processes.ts";

/** Settings of a server that shares a laptop with four others and feeds logical replication. */
const SETTINGS = [
  "listen_addresses = '127.0.0.1'",
  "unix_socket_directories = ''",
  "max_connections = 80",
  "shared_buffers = 32MB",
  "work_mem = 4MB",
  "maintenance_work_mem = 32MB",
  "jit = off",
  "fsync = on",
  "synchronous_commit = on",
  "wal_level = logical",
  "max_wal_senders = 8",
  "max_replication_slots = 16",
  // What a relay that does not come back may pin on the disk; beyond it the slot is lost and the outbox table sends again.
  "max_slot_wal_keep_size = 1GB",
  "max_wal_size = 512MB",
  "min_wal_size = 64MB",
  "wal_sender_timeout = 10s",
  "password_encryption = 'scram-sha-256'",
  "log_timezone = 'UTC'",
  "timezone = 'UTC'",
  "log_checkpoints = off",
  // Without its details an error names the constraint, and not whose address was taken.
  "log_error_verbosity = terse",
];

const ACCESS = ["host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"];

/** PostgreSQL with logical replication; database `quartet` belongs to the role `user_service`. */
export class PostgresEngine extends LocalEngine {
  readonly name = "postgres";
  protected readonly defaultPort = 5432;
  // Fast shutdown: ends the sessions, keeps the data.
  protected override readonly stopSignal = "SIGINT";
  protected override readonly refusesRoot = true;

  constructor(options: EngineOptions) {
    super("postgres", options);
  }

  get url(): string {
    return `postgres://postgres:${this.credentials.postgres.postgres}@127.0.0.1:${this.port}/quartet`;
  }

  urlFor(service: string): string {
    if (service !== "user") return this.refuse(service);
    return `postgres://user_service:${this.credentials.postgres.user_service}@127.0.0.1:${this.port}/quartet`;
  }

  get #data(): string {
    return join(this.dir, "data");
  }

  protected async prepare(folder: string): Promise<EngineLaunch> {
    const bin = join(folder, "native", "bin");
    ownForDroppedRoot(this.dir);
    if (!existsSync(join(this.#data, "PG_VERSION"))) await this.#initialise(bin);
    await this.#clearRemains();
    const settings = this.options.disposable ? [...SETTINGS, "min_wal_size = 32MB"] : SETTINGS;
    writeFileSync(join(this.#data, "postgresql.conf"), `${[`port = ${this.port}`, ...settings].join("\n")}\n`);
    writeFileSync(join(this.#data, "pg_hba.conf"), `${ACCESS.join("\n")}\n`);
    return { command: [join(bin, "postgres"), "-D", this.#data] };
  }

  /** Makes the data folder under another name and renames it, so that an interrupted initdb is simply repeated. */
  async #initialise(bin: string): Promise<void> {
    const draft = join(this.dir, "initdb");
    const password = join(this.dir, "initdb.password");
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(draft, { mode: 0o700 });
    ownForDroppedRoot(draft);
    writeFileSync(password, this.credentials.postgres.postgres, { mode: 0o600 });
    const options = ["--username=postgres", `--pwfile=${password}`, "--auth=scram-sha-256", "--encoding=UTF8"];
    const locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"];
    const quick = this.options.disposable ? ["--no-sync", "--wal-segsize=16"] : [];
    const command = [join(bin, "initdb"), "-D", draft, ...options, ...locale, ...quick];
    await this.helper(command, { PATH: process.env.PATH, LC_ALL: "C", TZ: "UTC" }, this.dir).finally(() =>
      rmSync(password),
    );
    renameSync(draft, this.#data);
  }

  /**
   * After the postmaster alone was killed: its children end by themselves, unless they are frozen, and the lock file names a pid that may
   * meanwhile be somebody else's. What works in our data folder is ours to end; what does not makes the lock file stale.
   */
  async #clearRemains(): Promise<void> {
    if (process.platform !== "linux") return;
    const inData = (pid: string | number): boolean => {
      try {
        return readlinkSync(`/proc/${pid}/cwd`) === this.#data;
      } catch {
        return false;
      }
    };
    for (const pid of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry) && inData(entry))) {
      const identity = identify(Number(pid));
      if (!identity) continue;
      killTree(identity);
      await waitForDeath(identity, 5_000);
    }
    const lock = join(this.#data, "postmaster.pid");
    if (existsSync(lock) && !inData(readFileSync(lock, "utf8").split("\n")[0] ?? "")) rmSync(lock);
  }

  #client(database: string): pg.Client {
    const client = new pg.Client({
      host: "127.0.0.1",
      port: this.port,
      user: "postgres",
      password: this.credentials.postgres.postgres,
      database,
      connectionTimeoutMillis: 1_500,
      query_timeout: 10_000,
    });
    client.on("error", () => {});
    return client;
  }

  protected async probe(): Promise<void> {
    const client = this.#client("postgres");
    try {
      await client.connect();
      await client.query("SELECT 1");
    } catch (error) {
      if ((error as { code?: string }).code !== "28P01") throw error;
      throw new EngineStartError(
        "postgres refuses the password of credentials.json: its data is of another installation",
        "",
      );
    } finally {
      await client.end().catch(() => {});
    }
  }

  protected override async provision(): Promise<void> {
    const client = this.#client("postgres");
    await client.connect();
    try {
      const role = await client.query("SELECT 1 FROM pg_roles WHERE rolname = 'user_service'");
      if (!role.rowCount) await client.query("CREATE ROLE user_service");
      const password = pg.escapeLiteral(this.credentials.postgres.user_service);
      await client.query(`ALTER ROLE user_service LOGIN REPLICATION PASSWORD ${password}`);
      const database = await client.query("SELECT 1 FROM pg_database WHERE datname = 'quartet'");
      if (!database.rowCount) await client.query("CREATE DATABASE quartet OWNER user_service");
      await client.query("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC");
    } finally {
      await client.end();
    }
  }
}
