import { createPeer, type Peer } from "@quartet/service";
import type { GatewayConfig } from "../config.ts";
import type { Authenticate } from "./authenticate.ts";

export const serviceNames = ["user", "session", "analytics", "search"] as const;
export type ServiceName = (typeof serviceNames)[number];
export type Peers = Record<ServiceName, Peer>;

/** What the handlers work with. */
export interface GatewayContext {
  peers: Peers;
  authenticate: Authenticate;
}

/** Time for a whole request that waits for nothing, in ms: answered within two seconds whatever is broken, with room for the way there and back. */
export const budgetMs = 1800;

/** One connection pool, deadline and breaker per service. */
export function createPeers(config: GatewayConfig): Peers {
  const peer = (name: ServiceName, url: string): Peer =>
    createPeer({ caller: "gateway", name, url, secret: config.INTERNAL_SECRET, timeoutMs: budgetMs });
  return {
    user: peer("user", config.USER_URL),
    session: peer("session", config.SESSION_URL),
    analytics: peer("analytics", config.ANALYTICS_URL),
    search: peer("search", config.SEARCH_URL),
  };
}
