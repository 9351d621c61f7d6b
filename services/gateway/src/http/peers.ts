import {
  canonicalAddress,
  clientHeader,
  createPeer,
  type Keyring,
  type Peer,
  type PeerAnswer,
  type PeerRequest,
  requestIdOf,
} from "@quartet/service";
import type { Request } from "express";
import type { GatewayConfig } from "../config.ts";
import type { Authenticate } from "./authenticate.ts";
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

/** What a call of ours says beside method and path. */
export interface Call extends Omit<PeerRequest, "requestId"> {
  /** The request that it is made for: its id and its client are told to the service. null: nobody's, the console's own look. */
  for: Request | null;
}

/** A service as the gateway calls it: a Peer that cannot be called without saying for which request. */
export interface Callee extends Pick<Peer, "name" | "close"> {
  request(method: string, path: string, call: Call): Promise<PeerAnswer>;
  forward(method: string, path: string, call: Call): Promise<PeerAnswer<Buffer>>;
}

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
export function createPeers(config: GatewayConfig, keyring: Keyring): Peers {
  const peer = (name: ServiceName, url: string, as: string = name, more: { connections?: number } = {}): Callee =>
    calleeOf(createPeer({ keyring, name, as, url, timeoutMs: budgetMs, maxAnswerBytes, ...more }));
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

function calleeOf(peer: Peer): Callee {
  const told = ({ for: req, ...request }: Call): PeerRequest =>
    req === null
      ? request
      : {
          ...request,
          requestId: requestIdOf(req),
          headers: { ...request.headers, [clientHeader]: canonicalAddress(req.ip) },
        };
  return {
    name: peer.name,
    close: () => peer.close(),
    request: (method, path, call) => peer.request(method, path, told(call)),
    forward: (method, path, call) => peer.forward(method, path, told(call)),
  };
}
