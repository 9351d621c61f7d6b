import {
  type BodyBudget,
  canonicalAddress,
  clientHeader,
  type Peer,
  type PeerAnswer,
  type PeerRequest,
  requestIdOf,
} from "@quartet/service";
import type { Request } from "express";

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

/** What the gateway does with every call: answers are held within `answers` until their request is answered; `clientOf` says whose they are there. */
export interface Held {
  answers: BodyBudget;
  clientOf: (req: Request) => string | undefined;
}

/** A Peer as a Callee. */
export function calleeOf(peer: Peer, { answers, clientOf }: Held): Callee {
  const told = ({ for: req, ...request }: Call): PeerRequest =>
    req === null
      ? request
      : {
          ...request,
          requestId: requestIdOf(req),
          holds: (bytes) => answers.take(req, bytes, clientOf(req)),
          headers: { ...request.headers, [clientHeader]: canonicalAddress(req.ip) },
        };
  return {
    name: peer.name,
    close: () => peer.close(),
    request: (method, path, call) => peer.request(method, path, told(call)),
    forward: (method, path, call) => peer.forward(method, path, told(call)),
  };
}
