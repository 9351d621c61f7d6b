import {
  CONSUMERS,
  type FactEvent,
  type QuartetEvent,
  rebuildConsumer,
  type Source,
  STREAMS,
  sourcesOf,
} from "@quartet/contracts";
import {
  createProjector,
  type Item,
  type Projector,
  pacer,
  passOver,
  StoreUnavailable,
  type Verdict,
} from "@quartet/projection";
import {
  type Logger,
  type Metrics,
  observeProjector,
  projectionMetrics,
  unsafe,
  withBatchSpan,
} from "@quartet/service";
import { anonymous, type Fact } from "../store/facts.ts";
import { decodeFact, toFact } from "./decode.ts";
import { natsSource } from "./nats.ts";

export { toFact } from "./decode.ts";

/** What the projector asks of the store. Whatever it throws means that the store did not take it: all batches are well-formed by then. */
export interface FactStore {
  insert(facts: Fact[]): Promise<void>;
  recordErased(userIds: string[]): Promise<void>;
  erasedAmong(userIds: string[]): Promise<Set<string>>;
  anonymise(): Promise<void>;
  writeWatermark(source: Source, at: Date): Promise<void>;
  ping(): Promise<void>;
}

/** Every insert is a part that is fsynced and merged. */
const PACE = { trickle: 250, backlog: 100, large: 200 };

/**
 * Applies a batch. A person's erasure is recorded first; facts of erased people go in without them; and after the insert the people of the batch are
 * looked up once more: whoever was recorded as erased meanwhile is anonymised again. Recording comes before the mutation on the other side, so
 * whichever comes first, no row is left that names them.
 */
export async function applyFacts(store: FactStore, batch: Item<QuartetEvent>[]): Promise<Verdict[]> {
  const facts = batch.map((item) => toFact(item.event as FactEvent, item));
  const erasedNow = batch.flatMap(({ event }) => (event.type === "quartet.user.erased.v1" ? [event.data.userId] : []));
  const people = [...new Set(facts.flatMap((f) => f.userId ?? []))];
  if (erasedNow.length > 0) await store.recordErased(erasedNow);
  const erased = people.length > 0 ? await store.erasedAmong(people) : new Set<string>();
  await store.insert(facts.map((f) => (f.userId !== null && erased.has(f.userId) ? anonymous(f) : f)));
  const living = people.filter((id) => !erased.has(id));
  const late = living.length > 0 ? await store.erasedAmong(living) : new Set<string>();
  if (erasedNow.length > 0 || late.size > 0) await store.anonymise();
  return batch.map(() => "applied");
}

async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new StoreUnavailable("ClickHouse did not take it", { cause: error });
  }
}

const LIMITS = { batch: { max: 10_000, maxBytes: 16 * 1024 * 1024 }, maxAckPending: 40_000 };

/** FACTS -> ClickHouse. */
export function createFactProjector(
  natsUrl: string,
  store: FactStore,
  { logger, metrics }: { logger: Logger; metrics: Metrics },
): Projector {
  const consumer = CONSUMERS.analytics.durable;

  const turn = pacer(PACE);
  const target = { consumer, stream: STREAMS.FACTS.name, store: "clickhouse" };
  const projector = createProjector<QuartetEvent>({
    nats: natsSource(natsUrl, "analytics projector"),
    stream: STREAMS.FACTS.name,
    consumer,
    decode: decodeFact,
    async apply(batch) {
      await turn(batch.length);
      return withBatchSpan(target, batch, () => guarded(() => applyFacts(store, batch)));
    },
    heartbeat: { onWatermark: (source, at) => guarded(() => store.writeWatermark(source as Source, at)) },
    probe: () => guarded(() => store.ping()),
    ...LIMITS,
    unsafe: { ackBeforeApply: unsafe.has("ack-before-flush") },
    logger,
    metrics: projectionMetrics(metrics, consumer),
  });
  observeProjector(metrics, consumer, sourcesOf(STREAMS.FACTS.name), projector);
  return projector;
}

/** FACTS -> the table that is being rebuilt. What cannot be stored is passed over: the projector of the live table has parked it. */
export function createRebuildProjector(
  natsUrl: string,
  store: FactStore,
  { logger, watermark }: { logger: Logger; watermark: (source: string, at: Date) => void },
): Projector {
  return createProjector<QuartetEvent | null>({
    nats: natsSource(natsUrl, "analytics rebuild"),
    stream: STREAMS.FACTS.name,
    consumer: rebuildConsumer("analytics"),
    decode: passOver(decodeFact),
    async apply(batch) {
      const known = batch.filter((item): item is Item<QuartetEvent> => item.event !== null);
      if (known.length > 0) await guarded(() => applyFacts(store, known));
      return batch.map(() => "applied");
    },
    heartbeat: { onWatermark: watermark },
    ...LIMITS,
    logger,
  });
}
