import { emit, encodeToken, factId, type Outgoing, type TrackedEvent, trackBody, uuidv7 } from "@quartet/contracts";
import { currentTraceparent, forbidden, identityOf, parseBody, unauthorized } from "@quartet/service";
import type { Express } from "express";

export interface TrackOptions {
  /** Resolves once JetStream has acknowledged all of them. */
  publish(facts: Outgoing[]): Promise<{ seq: number; stream: string }>;
}

/** `POST /v1/track`: accepted means acknowledged by JetStream; there is no outbox behind it. */
export function addTrackRoute(app: Express, { publish }: TrackOptions): void {
  app.post("/v1/track", async (req, res) => {
    const { events } = parseBody(trackBody, req);
    const identity = identityOf(req);
    for (const { userId } of events) {
      if (!userId) continue;
      if (!identity) throw unauthorized("an event with a userId needs that user's token");
      if (identity.kind === "user" && identity.userId !== userId)
        throw forbidden("an event with a userId needs that user's own token");
    }
    // Nobody can take another's id away: it is scoped to the caller, and where that is nobody, to what the event says.
    const idOf = ({ id = `own:${uuidv7()}`, name, occurredAt, properties }: TrackedEvent): string => {
      if (identity) return factId.track(identity.kind === "user" ? identity.userId : identity.kind, id);
      return factId.anonymousTrack(id, { name, properties, occurredAt: occurredAt ? new Date(occurredAt) : undefined });
    };
    const now = new Date();
    const traceparent = currentTraceparent();
    const facts = new Map<string, Outgoing>();
    for (const event of events) {
      const { name, occurredAt, userId, properties } = event;
      const fact = idOf(event);
      // The first of a batch wins, as the first accepted does everywhere.
      if (facts.has(fact)) continue;
      const time = occurredAt === undefined ? now : new Date(occurredAt);
      facts.set(
        fact,
        emit.track(fact, { name, userId: userId ?? null, properties: properties ?? {} }, { time, traceparent }),
      );
    }
    const position = await publish([...facts.values()]);
    res.setHeader("Consistency-Token", encodeToken({ t: position }));
    res.status(202).json({ accepted: events.length });
  });
}
