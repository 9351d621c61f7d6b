import { inboxPrefix } from "@quartet/contracts";
import { type Logger, unavailable } from "@quartet/service";
import { type ConnectionOptions, connect, type NatsConnection } from "nats";

/** Connection settings from `NATS_URL`; the user name in it is the service's, and so is the inbox. */
export function natsOptions(url: string, name: string): ConnectionOptions {
  const { hostname, port, username, password, protocol } = new URL(url);
  return {
    servers: `${hostname}:${port || 4222}`,
    ...(username ? { user: decodeURIComponent(username), pass: decodeURIComponent(password) } : {}),
    ...(protocol === "tls:" ? { tls: {} } : {}),
    inboxPrefix: inboxPrefix("user"),
    name,
  };
}

/** One lasting connection that comes back by itself; `require` answers it, or 503 while the broker is away. */
export class Broker {
  #nc: NatsConnection | undefined;
  #up = false;
  readonly #reconnected: (() => void)[] = [];

  constructor(url: string, logger: Logger) {
    const options = natsOptions(url, "user");
    void connect({
      ...options,
      waitOnFirstConnect: true,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      pingInterval: 2000,
      maxPingOut: 2,
      timeout: 2000,
    }).then(
      async (nc) => {
        this.#nc = nc;
        this.#connected();
        for await (const { type } of nc.status()) {
          if (type === "disconnect" || type === "staleConnection") this.#up = false;
          else if (type === "reconnect") this.#connected();
        }
        this.#up = false;
      },
      (err: unknown) => logger.error({ err }, "NATS refuses the connection"),
    );
  }

  get up(): boolean {
    return this.#up;
  }

  /** Calls `fn` at every connection, the first one included. */
  onConnect(fn: () => void): void {
    this.#reconnected.push(fn);
    if (this.#up) fn();
  }

  /** The connection. Throws `unavailable("nats")` while there is none. */
  require(): NatsConnection {
    if (!this.#nc || !this.#up) throw unavailable("nats", 1);
    return this.#nc;
  }

  async close(): Promise<void> {
    await this.#nc?.close();
  }

  #connected(): void {
    this.#up = true;
    for (const fn of this.#reconnected) fn();
  }
}
