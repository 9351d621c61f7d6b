import type { ServiceStatus, StatusBody } from "@quartet/contracts";
import type { Express, Request, Response } from "express";
import { requireOperator } from "./authenticate.ts";
import { type GatewayContext, type Peers, type ServiceName, serviceNames } from "./peers.ts";

/** Which store is whose. */
const storeOf = { user: "postgres", session: "redis", analytics: "clickhouse", search: "elasticsearch" } as const;
const timeoutMs = 1500;

/** `GET /v1/admin/status`: what each service says of itself, folded into one; a service that does not answer is down, and its store is not known to be up. */
export function addStatus(app: Express, { peers, authenticate }: GatewayContext): void {
  app.get("/v1/admin/status", async (req: Request, res: Response) => {
    await requireOperator(authenticate, req);
    res.setHeader("Cache-Control", "no-store");
    res.json(await collectStatus(peers, timeoutMs, req));
  });
}

/** Asks every service at the same time and folds what they say, within `timeoutMs`; for a request, or for nobody's. */
export async function collectStatus(peers: Peers, timeoutMs: number, req: Request | null): Promise<StatusBody> {
  const ask = async (name: ServiceName): Promise<[ServiceName, ServiceStatus | undefined]> => {
    try {
      const answer = await peers[name].request("GET", "/internal/status", { for: req, timeoutMs });
      return [name, answer.status === 200 ? (answer.body as ServiceStatus) : undefined];
    } catch {
      return [name, undefined];
    }
  };
  return foldStatus(new Map(await Promise.all(serviceNames.map(ask))));
}

/** One status of all. Of the audits the drifts are added and the oldest check counts; NATS is up if it answers anybody. */
function foldStatus(parts: Map<ServiceName, ServiceStatus | undefined>): StatusBody {
  const stores: Record<string, unknown> = {};
  const services: StatusBody["services"] = { gateway: { up: true } };
  const folded: Pick<StatusBody, "streams" | "projectors" | "relays"> = { streams: {}, projectors: {}, relays: {} };
  const audit: StatusBody["audit"] = { drift: null, checkedAt: null };
  let nats = false;
  for (const name of serviceNames) {
    const part = parts.get(name);
    services[name] = { up: part !== undefined };
    stores[storeOf[name]] = part?.store ?? { up: false };
    nats ||= part?.nats?.up ?? Object.keys(part?.streams ?? {}).length > 0;
    Object.assign(folded.streams, part?.streams);
    Object.assign(folded.projectors, part?.projectors);
    Object.assign(folded.relays, part?.relays);
    if (part?.audit) {
      if (part.audit.drift !== null) audit.drift = (audit.drift ?? 0) + part.audit.drift;
      const at = part.audit.checkedAt;
      if (at !== null && (audit.checkedAt === null || at < audit.checkedAt)) audit.checkedAt = at;
    }
  }
  return { services, stores: { ...stores, nats: { up: nats } } as StatusBody["stores"], ...folded, audit };
}
