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
  Broker,
  createProjector,
  type Item,
  inspectConsumer,
  latestPerKey,
  type Projector,
  pacer,
  passOver,
  resetConsumer,
  StoreUnavailable,
  type Verdict,
} from "@quartet/projection";
import {
  type Logger,
  type Metrics,
  observeProjector,
  projectionMetrics,
  soon,
  unsafe,
  withBatchSpan,
} from "@quartet/service";

/** What the projector asks of the store. */
export interface UserIndex {
  /** One verdict an event. `refresh`: they can be found when this returns. Throws an error marked `retryable` if the store did not take the batch. */
  write(events: UserEvent[], options: { refresh: boolean }): Promise<Verdict[]>;
  refresh(): Promise<void>;
  writeWatermark(source: Source, at: Date): Promise<void>;
  ping(): Promise<void>;
}

/**
 * Every bulk request is fsynced, and followed by a refresh, so that what is written is seen at once: an interval of its own for each of them would cost more
 * and show a write later. A change that comes alone does not wait.
 */
const PACE = { trickle: 200, backlog: 60, large: 200 };
/** While there is much to do, only so often is it made visible, in ms. */
const REFRESH_MS = 250;
const LIMITS = { max: 2000, maxBytes: 8 * 1024 * 1024 };
const { stream, durable: consumer } = CONSUMERS.search;

/** The connection for looking and for starting over. */
export function connectBroker(url: string, logger: Logger): Broker {
  const options = { pingInterval: 2000, maxPingOut: 2 };
  return new Broker({ url, name: "search", inboxPrefix: inboxPrefix("search"), options }, logger);
}

/** A frozen broker is noticed only after seconds; whoever asks for a status has not so much time. */
const LOOK_MS = 700;

/** How far the projector is; undefined while the broker is away. */
export async function progress(broker: Broker): Promise<{ lag: number; deadLetters: number } | undefined> {
  return broker.up ? soon(LOOK_MS, "nats", inspectConsumer(broker.require(), stream, consumer)) : undefined;
}

/** Has the whole stream delivered again, into an index that was made new. */
export async function replay(broker: Broker): Promise<void> {
  await resetConsumer(broker.require(), stream, consumer);
}

async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new StoreUnavailable("Elasticsearch did not take it", { cause: error });
  }
}

const newest = <E extends QuartetEvent>(batch: Item<E>[]) =>
  latestPerKey(
    batch,
    (e) => e.subject,
    (e) => e.version as number,
  );

/** USERS -> Elasticsearch. */
export function createUserProjector(
  natsUrl: string,
  index: UserIndex,
  { logger, metrics }: { logger: Logger; metrics: Metrics },
): Projector {
  const turn = pacer(PACE);
  let refreshed = Number.NEGATIVE_INFINITY;
  const target = { consumer, stream: STREAMS.USERS.name, store: "elasticsearch" };
  const projector = createProjector<QuartetEvent>({
    nats: { url: natsUrl, name: "search projector", inboxPrefix: inboxPrefix("search") },
    stream: STREAMS.USERS.name,
    consumer,
    decode: decodeUserMessage,
    async apply(batch) {
      await turn(batch.length);
      const folded = newest(batch);
      const refresh = batch.length < PACE.large || performance.now() - refreshed > REFRESH_MS;
      if (refresh) refreshed = performance.now();
      const write = () =>
        guarded(() =>
          index.write(
            folded.latest.map((item) => item.event as UserEvent),
            { refresh },
          ),
        );
      const verdicts = await withBatchSpan(target, batch, write);
      return folded.spread(verdicts);
    },
    flush: () => guarded(() => index.refresh()),
    heartbeat: { onWatermark: (source, at) => guarded(() => index.writeWatermark(source as Source, at)) },
    probe: () => guarded(() => index.ping()),
    batch: LIMITS,
    unsafe: { ackBeforeApply: unsafe.has("ack-before-flush") },
    logger,
    metrics: projectionMetrics(metrics, consumer),
  });
  observeProjector(metrics, consumer, sourcesOf(STREAMS.USERS.name), projector);
  return projector;
}

/** USERS -> the index that is being filled. What cannot be read is passed over: the projector of the one in use has parked it. */
export function createRebuildProjector(
  natsUrl: string,
  index: Pick<UserIndex, "refresh" | "writeWatermark"> & { write(events: UserEvent[]): Promise<Verdict[]> },
  { logger, watermark }: { logger: Logger; watermark: (source: string, at: Date) => void },
): Projector {
  return createProjector<QuartetEvent | null>({
    nats: { url: natsUrl, name: "search rebuild", inboxPrefix: inboxPrefix("search") },
    stream: STREAMS.USERS.name,
    consumer: rebuildConsumer("search"),
    decode: passOver(decodeUserMessage),
    async apply(batch) {
      const folded = newest(batch.filter((item): item is Item<UserEvent> => item.event !== null));
      const verdicts = await guarded(() => index.write(folded.latest.map((item) => item.event)));
      if (verdicts.includes("retry")) throw new StoreUnavailable("Elasticsearch did not take all");
      return batch.map(() => "applied");
    },
    flush: () => guarded(() => index.refresh()),
    heartbeat: {
      async onWatermark(source, at) {
        await guarded(() => index.writeWatermark(source as Source, at));
        watermark(source, at);
      },
    },
    batch: LIMITS,
    logger,
  });
}
