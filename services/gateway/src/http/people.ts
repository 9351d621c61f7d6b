import { userIdField } from "@quartet/contracts";
import { ClientGone, HttpProblem, type Identity, notFound, parseParams, whileAwaited } from "@quartet/service";
import type { Express, Request, Response } from "express";
import { z } from "zod";
import { budgetMs, type GatewayContext, type ServiceName, serviceNames } from "./peers.ts";
import { startWait } from "./proxy.ts";

/** What one service said about a person: `body` absent if it has nothing to say, `missing` if it did not answer. */
interface Part {
  missing: boolean;
  body?: Record<string, unknown>;
  asOf?: string;
  stale?: boolean;
  applied?: boolean;
}

const params = z.object({ id: userIdField });

/**
 * `GET /v1/people/:id`: the four services are asked at the same time, each with its own deadline. Whoever does not answer is named in
 * `missing`, and the others' parts are given all the same. Presence and activity are asked for only on behalf of the person or the operator.
 */
export function addPeople(app: Express, context: GatewayContext): void {
  const { peers, authenticate, tokens } = context;
  app.get("/v1/people/:id", async (req: Request, res: Response) => {
    const { id } = parseParams(params, req);
    const start = performance.now();
    tokens.open(req);
    const who = await identify(authenticate, req);
    const wait = startWait(context, req);
    const waitMs = wait.ms;
    const token = wait.headers["consistency-token"];
    const allowed = who.identity?.kind === "operator" || (who.identity?.kind === "user" && who.identity.userId === id);
    const timeoutMs =
      waitMs > 0 ? waitMs + 1200 : Math.max(500, Math.min(1200, budgetMs - (performance.now() - start)));

    const ask = async (
      signal: AbortSignal,
      service: ServiceName,
      path: string,
      identity?: Identity | null,
    ): Promise<Part> => {
      const peer = peers[service !== "user" && wait.apart ? (`${service}-waiting` as const) : service];
      try {
        const answer = await peer.request("GET", path, {
          identity,
          for: req,
          timeoutMs,
          ...(service === "user" ? {} : { headers: wait.headers }),
          signal,
        });
        if (answer.status === 404 && service === "user") throw notFound("there is no such person");
        // A derived store that does not know them (yet) has nothing to say of them, and says as of when.
        if (answer.status !== 200 && answer.status !== 404) return { missing: true };
        const { "quartet-as-of": asOf, "quartet-freshness": freshness, "preference-applied": applied } = answer.headers;
        return {
          missing: false,
          ...(answer.status === 200 ? { body: answer.body as Record<string, unknown> } : {}),
          stale: freshness === "stale",
          applied: applied !== undefined,
          ...(typeof asOf === "string" ? { asOf } : {}),
        };
      } catch (error) {
        if (error instanceof ClientGone || (error instanceof HttpProblem && error.status === 404)) throw error;
        return { missing: true };
      }
    };

    const askAll = (signal: AbortSignal) =>
      Promise.all([
        ask(signal, "user", `/v1/users/${id}`, who.identity ?? null),
        allowed ? ask(signal, "session", `/internal/presence/${id}`) : { missing: who.unknown },
        allowed ? ask(signal, "analytics", `/internal/activity/${id}`) : { missing: false },
        ask(signal, "search", `/internal/similar/${id}?limit=5`),
      ]);
    const [user, session, analytics, search] = await whileAwaited(res, askAll).finally(wait.end);
    const parts = { user, session, analytics, search } as Record<ServiceName, Part>;
    const derived = [parts.session, parts.analytics, parts.search];
    const body = {
      id,
      ...(user.body ? { user: user.body } : {}),
      ...(parts.session.body ? { presence: parts.session.body } : {}),
      ...(parts.analytics.body ? { activity: parts.analytics.body } : {}),
      ...(parts.search.body ? { similar: parts.search.body.similar } : {}),
      missing: serviceNames.filter((name) => parts[name].missing),
    };

    // as old as its oldest part; ISO times of one form sort as text
    const asOf = derived.flatMap((part) => part.asOf ?? []).sort()[0];
    if (asOf) res.setHeader("Quartet-As-Of", asOf);
    if (token) {
      if (derived.some((part) => part.stale || part.missing)) res.setHeader("Quartet-Freshness", "stale");
      else if (waitMs > 0 && derived.some((part) => part.applied)) res.setHeader("Preference-Applied", "wait");
    }
    res.setHeader("Vary", "Authorization");
    res.setHeader("Cache-Control", "no-store");
    res.json(body);
  });
}

/** Who asks. If Session does not answer, a token proves nothing: the caller gets what anybody may see, and Session is named as missing. */
async function identify(
  authenticate: GatewayContext["authenticate"],
  req: Request,
): Promise<{ identity?: Identity; unknown: boolean }> {
  try {
    const identity = await authenticate(req);
    return { ...(identity ? { identity } : {}), unknown: false };
  } catch (error) {
    if (error instanceof HttpProblem && error.status === 503) return { unknown: true };
    throw error;
  }
}
