import {
  CONSUMERS,
  decodeUserMessage,
  inboxPrefix,
  type QuartetEvent,
  rebuildConsumer,
  type Source,
  STREAMS,
  sourcesOf,
  type UserEvent,
} from "@quartet/contracts";
import {
  createProjector,
  type Item,
  latestPerKey,
  type Projector,
  passOver,
  StoreUnavailable,
} from "@quartet/projection";
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
    decode: decodeUserMessage,
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

/** USERS -> the place that a rebuild fills. What cannot be read is passed over: the projector of the live copies has parked it. */
export function createRefillProjector(
  natsUrl: string,
  store: { apply(events: UserEvent[]): Promise<void>; isFault(error: unknown): boolean },
  { logger, watermark }: { logger: Logger; watermark: (source: string, at: Date) => void },
): Projector {
  return createProjector<QuartetEvent | null>({
    nats: { url: natsUrl, name: "session rebuild", inboxPrefix: inboxPrefix("session") },
    stream: STREAMS.USERS.name,
    consumer: rebuildConsumer("session"),
    decode: passOver(decodeUserMessage),
    async apply(batch) {
      const known = batch.filter((item): item is Item<UserEvent> => item.event !== null);
      const folded = latestPerKey(
        known,
        (e) => e.subject,
        (e) => e.version as number,
      );
      try {
        await store.apply(folded.latest.map((item) => item.event));
      } catch (error) {
        if (store.isFault(error)) throw new StoreUnavailable("Redis does not answer", { cause: error });
        throw error;
      }
      return batch.map(() => "applied");
    },
    heartbeat: { onWatermark: watermark },
    logger,
  });
}
