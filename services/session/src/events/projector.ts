import {
  CONSUMERS,
  decodeEvent,
  inboxPrefix,
  type QuartetEvent,
  type Source,
  STREAMS,
  sourcesOf,
  subjects,
  type UserEvent,
} from "@quartet/contracts";
import { createProjector, latestPerKey, PoisonMessage, type Projector, StoreUnavailable } from "@quartet/projection";
import {
  type Logger,
  type Metrics,
  observeProjector,
  projectionMetrics,
  unsafe,
  withBatchSpan,
} from "@quartet/service";

export interface SessionProjection {
  apply(events: UserEvent[]): Promise<void>;
  moveWatermark(source: Source, at: Date): Promise<void>;
  isFault(error: unknown): boolean;
  ping(): Promise<void>;
}

/** USERS -> profile copies in Redis, and what follows from them for the sessions. */
export function createSessionProjector(
  natsUrl: string,
  store: SessionProjection,
  { logger, metrics }: { logger: Logger; metrics: Metrics },
): Projector {
  const consumer = CONSUMERS.session.durable;

  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      if (store.isFault(error)) throw new StoreUnavailable("Redis does not answer", { cause: error });
      throw error;
    }
  };

  const target = { consumer, stream: STREAMS.USERS.name, store: "redis" };
  const projector = createProjector<QuartetEvent>({
    nats: { url: natsUrl, name: "session projector", inboxPrefix: inboxPrefix("session") },
    stream: STREAMS.USERS.name,
    consumer,
    decode(message) {
      const event = decodeEvent(message.data);
      const user = event.type === "quartet.user.state.v1" || event.type === "quartet.user.tombstone.v1";
      if (!user && event.type !== "quartet.heartbeat.v1")
        throw new PoisonMessage(`${event.type} does not belong on USERS`);
      if (user && event.version === undefined) throw new PoisonMessage("no version");
      if (user && message.subject !== subjects.user(event.data.id)) throw new PoisonMessage("subject and user differ");
      return event;
    },
    async apply(batch) {
      const folded = latestPerKey(
        batch,
        (e) => e.subject,
        (e) => e.version as number,
      );
      await withBatchSpan(target, batch, () =>
        guarded(() => store.apply(folded.latest.map((item) => item.event as UserEvent))),
      );
      return folded.spread(folded.latest.map(() => "applied" as const));
    },
    heartbeat: { onWatermark: (source, at) => guarded(() => store.moveWatermark(source as Source, at)) },
    probe: () => guarded(() => store.ping()),
    unsafe: { ackBeforeApply: unsafe.has("ack-before-flush") },
    logger,
    metrics: projectionMetrics(metrics, consumer),
  });
  observeProjector(metrics, consumer, sourcesOf(STREAMS.USERS.name), projector);
  return projector;
}
