import { inboxPrefix } from "@quartet/contracts";
import type { ConnectionOptions } from "nats";

/** Connection settings from `NATS_URL`; the user name in it is the service's, and so is the inbox. */
export function natsOptions(url: string, name: string): ConnectionOptions {
  const { hostname, port, username, password, protocol } = new URL(url);
  return {
    servers: `${hostname}:${port || 4222}`,
    ...(username ? { user: decodeURIComponent(username), pass: decodeURIComponent(password) } : {}),
    ...(protocol === "tls:" ? { tls: {} } : {}),
    inboxPrefix: inboxPrefix("session"),
    name,
  };
}
