import {
  CONSUMERS,
  decodeEvent,
  type FactEvent,
  type QuartetEvent,
  type Source,
  STREAMS,
  sourcesOf,
} from "@quartet/contracts";
import {
  createProjector,
  type Item,
  PoisonMessage,
  type Projector,
  pacer,
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
import type { Fact } from "../store/facts.ts";
import { natsSource } from "./nats.ts";

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
const BATCH_SPACING_MS = 100;
const EARLIEST = 0;
const LATEST = Date.UTC(2200, 0, 1);

/** The row of an event. */
export function toFact(event: FactEvent, accepted: { time: Date; seq: number }): Fact {
  const common = {
    id: event.id,
    occurredAt: Date.parse(event.time),
    acceptedAt: BigInt(accepted.time.getTime()) * 1_000_000n,
    sequence: accepted.seq,
  };
  switch (event.type) {
    case "quartet.user.created.v1":
    case "quartet.user.updated.v1":
    case "quartet.user.erased.v1":
      return { ...common, kind: "user", name: event.type.split(".")[2] as string, userId: event.data.userId };
    case "quartet.session.started.v1":
    case "quartet.session.active.v1":
      return { ...common, kind: "session", name: event.type.split(".")[2] as string, userId: event.data.userId };
    case "quartet.session.ended.v1": {
      const { userId, reason, durationSeconds } = event.data;
      return { ...common, kind: "session", name: "ended", userId, reason, durationSeconds };
    }
    case "quartet.track.v1": {
      const { name, userId, properties } = event.data;
      return { ...common, kind: "track", name, userId, properties };
    }
  }
}

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
  const anonymous = (fact: Fact): Fact =>
    fact.userId !== null && erased.has(fact.userId) ? { ...fact, userId: null, properties: {} } : fact;
  await store.insert(facts.map(anonymous));
  const living = people.filter((id) => !erased.has(id));
  const late = living.length > 0 ? await store.erasedAmong(living) : new Set<string>();
  if (erasedNow.length > 0 || late.size > 0) await store.anonymise();
  return batch.map(() => "applied");
}

/** FACTS -> ClickHouse. */
export function createFactProjector(
  natsUrl: string,
  store: FactStore,
  { logger, metrics }: { logger: Logger; metrics: Metrics },
): Projector {
  const consumer = CONSUMERS.analytics.durable;

  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw new StoreUnavailable("ClickHouse did not take it", { cause: error });
    }
  };

  const turn = pacer(BATCH_SPACING_MS);
  const target = { consumer, stream: STREAMS.FACTS.name, store: "clickhouse" };
  const projector = createProjector<QuartetEvent>({
    nats: natsSource(natsUrl, "analytics projector"),
    stream: STREAMS.FACTS.name,
    consumer,
    decode(message) {
      const event = decodeEvent(message.data);
      if (event.type === "quartet.heartbeat.v1") return event;
      if (event.type === "quartet.user.state.v1" || event.type === "quartet.user.tombstone.v1") {
        throw new PoisonMessage(`${event.type} does not belong on FACTS`);
      }
      const at = Date.parse(event.time);
      if (!(at >= EARLIEST && at < LATEST)) throw new PoisonMessage(`the time ${event.time} cannot be stored`);
      const named = message.subject.split(".").at(-1);
      if ((event.data.userId ?? "-") !== named) throw new PoisonMessage("subject and person differ");
      return event;
    },
    async apply(batch) {
      await turn();
      return withBatchSpan(target, batch, () => guarded(() => applyFacts(store, batch)));
    },
    heartbeat: { onWatermark: (source, at) => guarded(() => store.writeWatermark(source as Source, at)) },
    probe: () => guarded(() => store.ping()),
    batch: { max: 10_000, maxBytes: 16 * 1024 * 1024 },
    maxAckPending: 40_000,
    unsafe: { ackBeforeApply: unsafe.has("ack-before-flush") },
    logger,
    metrics: projectionMetrics(metrics, consumer),
  });
  observeProjector(metrics, consumer, sourcesOf(STREAMS.FACTS.name), projector);
  return projector;
}
