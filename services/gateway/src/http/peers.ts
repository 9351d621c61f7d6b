import { createPeer, type Keyring, type Peer } from "@quartet/service";
import type { GatewayConfig } from "../config.ts";
import type { Authenticate } from "./authenticate.ts";

export const serviceNames = ["user", "session", "analytics", "search"] as const;
export type ServiceName = (typeof serviceNames)[number];
/** `track` is Analytics too, which takes events without ClickHouse: its slow reads must not open the breaker before them. */
export type Peers = Record<ServiceName | "track", Peer>;

/** What the handlers work with. */
export interface GatewayContext {
  peers: Peers;
  authenticate: Authenticate;
}

/** Time for a whole request that waits for nothing, in ms: answered within two seconds whatever is broken, with room for the way there and back. */
export const budgetMs = 1800;

/** One connection pool, deadline and breaker per service, and for what does not need the store of the others. */
export function createPeers(config: GatewayConfig, keyring: Keyring): Peers {
  const peer = (name: ServiceName, url: string, as: string = name): Peer =>
    createPeer({ keyring, name, as, url, timeoutMs: budgetMs });
  return {
    user: peer("user", config.USER_URL),
    session: peer("session", config.SESSION_URL),
    analytics: peer("analytics", config.ANALYTICS_URL),
    track: peer("analytics", config.ANALYTICS_URL, "analytics-track"),
    search: peer("search", config.SEARCH_URL),
  };
}
