import { inboxPrefix } from "@quartet/contracts";
import { Broker, type NatsSource } from "@quartet/projection";
import type { Logger } from "@quartet/service";

export function natsSource(url: string, name: string): NatsSource {
  return { url, name, inboxPrefix: inboxPrefix("analytics") };
}

/** The connection for publishing and looking. A frozen broker shows after the pings it missed. */
export function connectBroker(url: string, logger: Logger): Broker {
  const options = { pingInterval: 2000, maxPingOut: 2 };
  return new Broker({ url, name: "analytics", inboxPrefix: inboxPrefix("analytics"), options }, logger);
}
