import { deepStrictEqual } from "node:assert";
import { STREAMS } from "@quartet/contracts";
import fc from "fast-check";
import { type NatsConnection, RetentionPolicy, StorageType } from "nats";
import type { Item, Verdict } from "./types.ts";

/**
 * The property every projection must have, as a harness for any store: whatever the order, the duplicates, the cuts and the restarts, the store ends
 * as the model says. For tests; needs fast-check, which `src/index.ts` does not.
 */

/** One life of a store under test, empty at the start. */
export interface StoreUnderTest<E, S> {
  /** What the service gives to `createProjector` as `apply`. */
  deliver(batch: Item<E>[]): Promise<Verdict[]>;
  /** What the store shows, in a form that `deepStrictEqual` can compare with the model's. */
  read(): Promise<S>;
  /** As if the process had died: new clients, empty caches. The store stays. */
  restart?(): Promise<void>;
  close?(): Promise<void>;
}

export interface ProjectionProperty<E, S> {
  /** Histories in the order of truth. See `stateChanges` and `facts`. */
  history: fc.Arbitrary<E[]>;
  /** An empty store for every run. */
  fresh(): Promise<StoreUnderTest<E, S>>;
  /** What the store must show after the whole history. */
  model(history: E[]): S;
  /** For a compacted stream: the key by which later events replace earlier ones, any of which may then never be delivered. */
  compactedBy?(event: E): string;
  /** Subject of the item. Default `test.<index>`. */
  subjectOf?(event: E): string;
  /** Default 50. */
  runs?: number;
  /** To repeat a failure: fast-check prints it. */
  seed?: number;
  path?: string;
}

/** What happens to a batch on its way. */
type Fate = { kind: "arrives" } | { kind: "cut"; at: number } | { kind: "lost acknowledgement" } | { kind: "restart" };

export interface Schedule {
  /** Random numbers in [0, 1) that order the deliveries. */
  order: number[];
  /** Places in the history that are delivered once more than needed. */
  duplicates: number[];
  sizes: number[];
  fates: Fate[];
  /** Which superseded events the stream forgot before they were delivered. */
  forgotten: boolean[];
}

const fate: fc.Arbitrary<Fate> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Fate>({ kind: "arrives" }) },
  { weight: 2, arbitrary: fc.nat(8).map<Fate>((at) => ({ kind: "cut", at })) },
  { weight: 1, arbitrary: fc.constant<Fate>({ kind: "lost acknowledgement" }) },
  { weight: 1, arbitrary: fc.constant<Fate>({ kind: "restart" }) },
);

/** How the history of `n` events reaches the store. */
export function schedules(n: number): fc.Arbitrary<Schedule> {
  const unit = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
  return fc.record({
    // Near enough to the true order to be interesting, or anything at all.
    order: fc.oneof(
      fc.array(unit, { minLength: n, maxLength: n }),
      fc.array(unit, { minLength: n, maxLength: n }).map((r) => r.map((x, i) => (i + x * 4) / (n + 4))),
    ),
    duplicates: n === 0 ? fc.constant([]) : fc.array(fc.nat(n - 1), { maxLength: n }),
    sizes: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 20 }),
    fates: fc.array(fate, { maxLength: 12 }),
    forgotten: fc.array(fc.boolean(), { minLength: n, maxLength: n }),
  });
}

/** Places that a compacted stream may have forgotten: a later event has the same key. */
function superseded<E>(history: E[], keyOf: (event: E) => string): Set<number> {
  const last = new Map(history.map((event, i) => [keyOf(event), i]));
  return new Set(history.flatMap((event, i) => (last.get(keyOf(event)) === i ? [] : [i])));
}

/** Brings a history into a store by a schedule, as the projector does: what was not acknowledged comes again, until all is. */
export async function deliverBySchedule<E, S>(
  history: E[],
  schedule: Schedule,
  store: StoreUnderTest<E, S>,
  options: Pick<ProjectionProperty<E, S>, "compactedBy" | "subjectOf"> = {},
): Promise<void> {
  const gone = options.compactedBy ? superseded(history, options.compactedBy) : new Set<number>();
  const delivered = new Array<number>(history.length).fill(0);
  const queue = [...history.keys()]
    .filter((i) => !(gone.has(i) && schedule.forgotten[i]))
    .sort((a, b) => schedule.order[a]! - schedule.order[b]!);
  for (const [i, place] of schedule.duplicates.entries()) {
    if (queue.includes(place)) queue.splice((i * 7 + place) % (queue.length + 1), 0, place);
  }
  const toItem = (place: number): Item<E> => ({
    event: history[place]!,
    seq: place + 1,
    subject: options.subjectOf?.(history[place]!) ?? `test.${place}`,
    time: new Date(1_700_000_000_000 + place),
    deliveries: ++delivered[place]!,
  });
  const apply = async (places: number[]): Promise<number[]> => {
    if (places.length === 0) return [];
    const verdicts = await store.deliver(places.map(toItem));
    deepStrictEqual(verdicts.length, places.length, "one verdict per item");
    return places.filter((place, i) => {
      const verdict = verdicts[i]!;
      if (typeof verdict === "object") throw new Error(`event ${place} called poison: ${verdict.poison}`);
      if (delivered[place]! > 100) throw new Error(`event ${place} is never applied`);
      return verdict === "retry";
    });
  };
  for (let step = 0; queue.length > 0; step++) {
    const batch = queue.splice(0, schedule.sizes[step % schedule.sizes.length]!);
    const fate = schedule.fates[step] ?? { kind: "arrives" };
    if (fate.kind === "cut") {
      // The process died in the middle: part of the batch is in the store, all of it comes again.
      await apply(batch.slice(0, fate.at % (batch.length + 1)));
      await store.restart?.();
      queue.push(...batch);
      continue;
    }
    const again = await apply(batch);
    if (fate.kind === "lost acknowledgement") queue.push(...batch);
    else queue.push(...again);
    if (fate.kind === "restart") await store.restart?.();
  }
}

/** Checks the property against a real store; throws fast-check's report with the smallest history and schedule that break it. */
export async function checkProjection<E, S>(property: ProjectionProperty<E, S>): Promise<void> {
  const cases = property.history.chain((history) => fc.tuple(fc.constant(history), schedules(history.length)));
  await fc.assert(
    fc.asyncProperty(cases, async ([history, schedule]) => {
      const store = await property.fresh();
      try {
        await deliverBySchedule(history, schedule, store, property);
        deepStrictEqual(await store.read(), property.model(history));
      } finally {
        await store.close?.();
      }
    }),
    {
      numRuns: property.runs ?? 50,
      ...(property.seed === undefined ? {} : { seed: property.seed }),
      ...(property.path === undefined ? {} : { path: property.path }),
    },
  );
}

/** A change of the state of one key: what a service turns into an event of its own. */
export interface StateChange {
  key: string;
  /** Grows by one with each change of the key. */
  version: number;
  /** Null = deleted for ever: nothing of that key follows, except the same tombstone above its version (a repair). */
  value: { name: string; score: number } | null;
}

/** Histories of state changes of a few keys, deletes included. */
export function stateChanges(options: { keys?: number; maxLength?: number } = {}): fc.Arbitrary<StateChange[]> {
  const { keys = 5, maxLength = 40 } = options;
  const change = fc.record(
    {
      key: fc.nat(keys - 1),
      value: fc.option(
        fc.record({ name: fc.string({ maxLength: 8 }), score: fc.nat(100) }, { noNullPrototype: true }),
        { freq: 6 },
      ),
    },
    { noNullPrototype: true },
  );
  return fc.array(change, { maxLength }).map((changes) => {
    const versions = new Map<number, number>();
    const dead = new Set<number>();
    return changes.map(({ key, value }) => {
      const version = (versions.get(key) ?? 0) + 1;
      versions.set(key, version);
      if (value === null) dead.add(key);
      return { key: `k${key}`, version, value: dead.has(key) ? null : value };
    });
  });
}

/** The newest state of every key that is not deleted: the model of a state projection. */
export function newestStates(history: StateChange[]): Record<string, NonNullable<StateChange["value"]>> {
  const states = new Map<string, NonNullable<StateChange["value"]>>();
  for (const { key, value } of history) {
    if (value === null) states.delete(key);
    else states.set(key, value);
  }
  return Object.fromEntries([...states].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Something that happened. */
export interface Fact {
  /** The same id is the same fact. */
  id: string;
  key: string;
  name: string;
  amount: number;
  /** Milliseconds since 1970, over some months. */
  time: number;
}

/** Histories of facts with distinct ids over a few keys and names. */
export function facts(options: { keys?: number; maxLength?: number } = {}): fc.Arbitrary<Fact[]> {
  const { keys = 5, maxLength = 40 } = options;
  const fact = fc.record(
    {
      key: fc.nat(keys - 1).map((k) => `k${k}`),
      name: fc.constantFrom("opened", "commit", "signed-up"),
      amount: fc.nat(1_000),
      time: fc.integer({ min: 1_780_000_000_000, max: 1_795_000_000_000 }),
    },
    { noNullPrototype: true },
  );
  return fc.array(fact, { maxLength }).map((list) => list.map((f, i) => ({ id: `f${i}`, ...f })));
}

/** Makes the three streams as the user service does, for a test that does without it. */
export async function makeStreams(nc: NatsConnection): Promise<void> {
  const jsm = await nc.jetstreamManager();
  for (const s of Object.values(STREAMS)) {
    await jsm.streams.add({
      name: s.name,
      subjects: s.subjects,
      retention: RetentionPolicy.Limits,
      storage: StorageType.File,
      max_msgs_per_subject: s.maxMsgsPerSubject,
      max_age: s.maxAgeSeconds * 1e9,
      duplicate_window: 120e9,
      allow_direct: true,
    });
  }
}
