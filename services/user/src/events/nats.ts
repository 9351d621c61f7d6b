import { inboxPrefix } from "@quartet/contracts";
import { Broker, natsOptions as fromUrl } from "@quartet/projection";
import type { Logger } from "@quartet/service";
import type { ConnectionOptions } from "nats";

/** Connection settings from `NATS_URL`; the user name in it is the service's, and so is the inbox. */
export function natsOptions(url: string, name: string): ConnectionOptions {
  return { ...fromUrl(url), inboxPrefix: inboxPrefix("user"), name };
}

/** The connection for everything but the relay. */
export function connectBroker(url: string, logger: Logger): Broker {
  const options = { pingInterval: 2000, maxPingOut: 2 };
  return new Broker({ url, name: "user", inboxPrefix: inboxPrefix("user"), options }, logger);
}
