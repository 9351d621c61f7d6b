import { createPeer, type Keyring } from "@quartet/service";
import type { Request } from "express";
import type { GatewayConfig } from "../config.ts";
import type { Authenticate } from "./authenticate.ts";
import { type Callee, calleeOf, type Held } from "./callee.ts";
import type { Tokens } from "./tokens.ts";
import type { Turns } from "./turns.ts";
import type { Waits } from "./waits.ts";

export const serviceNames = ["user", "session", "analytics", "search"] as const;
export type ServiceName = (typeof serviceNames)[number];
/** Who has reads that wait. */
export type WaitingName = "session" | "analytics" | "search";
/**
 * `track` is Analytics too, which takes events without ClickHouse: its slow reads must not open the breaker before them. `introspection` is Session, asked
 * who somebody is: nothing that others ask Session for may delay that. Reads that wait have connections and a breaker of their own.
 */
export type Peers = Record<ServiceName | "track" | "introspection" | `${WaitingName}-waiting`, Callee>;

/** What the handlers work with. */
export interface GatewayContext {
  peers: Peers;
  authenticate: Authenticate;
  /** Whether a request carries the operator's token, without asking anybody. */
  isOperator: (req: Request) => boolean;
  tokens: Tokens;
  waits: Waits;
  turns: Turns;
}

/** The largest answer that is passed on; the largest that any operation gives is far below. */
const maxAnswerBytes = 8 * 1024 * 1024;

/** Time for a whole request that waits for nothing, in ms: answered within two seconds whatever is broken, with room for the way there and back. */
export const budgetMs = 1800;

/** One connection pool, deadline and breaker per service, and for what does not need the store of the others. */
export function createPeers(config: GatewayConfig, keyring: Keyring, held: Held): Peers {
  const peer = (name: ServiceName, url: string, as: string = name, more: { connections?: number } = {}): Callee =>
    calleeOf(createPeer({ keyring, name, as, url, timeoutMs: budgetMs, maxAnswerBytes, ...more }), held);
  // As many connections as may wait, none of which waits for another, and as many as any peer has for those that found no place.
  const waiting = (name: WaitingName, url: string): Callee =>
    peer(name, url, `${name}-waiting`, { connections: config.MAX_WAITING + 128 });
  return {
    user: peer("user", config.USER_URL),
    session: peer("session", config.SESSION_URL),
    analytics: peer("analytics", config.ANALYTICS_URL),
    track: peer("analytics", config.ANALYTICS_URL, "analytics-track"),
    search: peer("search", config.SEARCH_URL),
    introspection: peer("session", config.SESSION_URL, "introspection"),
    "session-waiting": waiting("session", config.SESSION_URL),
    "analytics-waiting": waiting("analytics", config.ANALYTICS_URL),
    "search-waiting": waiting("search", config.SEARCH_URL),
  };
}
