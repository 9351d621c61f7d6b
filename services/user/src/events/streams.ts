import { setTimeout as sleep } from "node:timers/promises";
import { maxBytesOf, STREAMS, type StreamDefinition, subjects } from "@quartet/contracts";
import type { Broker } from "@quartet/projection";
import { type Logger, watchTask } from "@quartet/service";
import { DiscardPolicy, type JetStreamManager, NatsError, RetentionPolicy, StorageType, type StreamConfig } from "nats";

const NANOS = 1e9;
const CHECK_EVERY_MS = 2_000;

/** What the streams are made with beside their definitions. */
export interface StreamSettings {
  /** Of each stream: 3 on a NATS cluster. */
  replicas: number;
  /** What JetStream may store; each stream gets its share of it. */
  storeBytes: number;
}

/** The client's types are older than messages with a time to live. */
type Settings = StreamConfig & { allow_msg_ttl?: boolean };

function configOf(definition: StreamDefinition, { replicas, storeBytes }: StreamSettings) {
  return {
    name: definition.name,
    description: definition.description,
    subjects: definition.subjects,
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    // Full, it refuses. To make room by dropping would lose what nobody has seen yet.
    discard: DiscardPolicy.New,
    max_bytes: maxBytesOf(definition, storeBytes),
    allow_msg_ttl: true,
    max_msgs_per_subject: definition.maxMsgsPerSubject,
    max_age: definition.maxAgeSeconds * NANOS,
    duplicate_window: 120 * NANOS,
    allow_direct: true,
    num_replicas: replicas,
  } satisfies Partial<Settings>;
}

function hasCode(error: unknown, code: number): boolean {
  return error instanceof NatsError && error.api_error?.err_code === code;
}
const NOT_FOUND = 10059;
const NO_ROOM = 10047;

async function ensure(
  jsm: JetStreamManager,
  definition: StreamDefinition,
  settings: StreamSettings,
): Promise<"made" | "changed" | "same"> {
  const wanted = configOf(definition, settings);
  let current: Settings;
  let held: number;
  try {
    const { config, state } = await jsm.streams.info(definition.name);
    current = config;
    held = state.bytes;
  } catch (error) {
    if (!hasCode(error, NOT_FOUND)) throw error;
    await jsm.streams.add(wanted);
    return "made";
  }
  // An installation that is older than its limits: what keeps everybody's last state is not to refuse the next one from then on.
  const tight = definition.maxMsgsPerSubject === 1 && held > 0.9 * wanted.max_bytes;
  if (tight && current.max_bytes <= 0) wanted.max_bytes = Math.ceil(1.25 * held);
  else if (tight && current.max_bytes > wanted.max_bytes) wanted.max_bytes = current.max_bytes;
  const differs = (
    ["description", "max_msgs_per_subject", "max_age", "num_replicas", "max_bytes", "discard", "allow_msg_ttl"] as const
  ).some((k) => current[k] !== wanted[k]);
  if (!differs && JSON.stringify(current.subjects) === JSON.stringify(wanted.subjects)) return "same";
  try {
    await jsm.streams.update(definition.name, wanted);
  } catch (error) {
    if (!hasCode(error, NO_ROOM) || current.max_bytes <= wanted.max_bytes) throw error;
    // A store that was made smaller refuses even a smaller reservation while the old one stands.
    await jsm.streams.update(definition.name, { ...wanted, max_bytes: -1 });
    await jsm.streams.update(definition.name, wanted);
  }
  return "changed";
}

/** Makes the streams and keeps their settings, at every connection and every two seconds: a stream that was lost comes back. */
export async function keepStreams(
  broker: Broker,
  settings: StreamSettings,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const watch = watchTask("stream-settings", { logger });
  let wake: () => void = () => {};
  broker.onConnect(() => wake());
  while (!signal.aborted) {
    const pause = new AbortController();
    wake = () => pause.abort();
    let wait = CHECK_EVERY_MS;
    try {
      const jsm = await broker.require().jetstreamManager({ checkAPI: false, timeout: 3000 });
      for (const definition of Object.values(STREAMS)) {
        const done = await ensure(jsm, definition, settings);
        if (done !== "same") logger.info({ stream: definition.name }, `stream ${done}`);
      }
      watch.ok();
    } catch (error) {
      wait = 500;
      watch.failed(error);
    }
    await sleep(wait, undefined, { signal: AbortSignal.any([signal, pause.signal]) }).catch(() => {});
  }
}

/** How many messages each stream holds. */
export async function streamCounts(broker: Broker): Promise<Record<string, { messages: number }>> {
  const jsm = await broker.require().jetstreamManager({ checkAPI: false, timeout: 800 });
  const infos = await Promise.all(Object.keys(STREAMS).map((name) => jsm.streams.info(name)));
  return Object.fromEntries(infos.map((info) => [info.config.name, { messages: info.state.messages }]));
}

function hasNone(error: unknown): boolean {
  return error instanceof NatsError && error.api_error?.err_code === 10037;
}

/**
 * Whether the relay has passed everything this service ever said of the person, on USERS and on FACTS, each of which it may owe something: the stream has the
 * tombstone or the fact of this erasure, or, since that leaves by age or to make room, a heartbeat of a moment at which the erasure had been
 * committed: what was committed before it is on the stream.
 * @param since such a moment, by the database's clock; null if none is known yet
 */
export async function erasureIsRelayed(broker: Broker, userId: string, since: Date | null): Promise<boolean> {
  const jsm = await broker.require().jetstreamManager({ checkAPI: false, timeout: 2000 });
  const lastOf = async <T>(stream: string, subject: string): Promise<T | undefined> => {
    try {
      return (await jsm.streams.getMessage(stream, { last_by_subj: subject })).json<T>();
    } catch (error) {
      if (hasNone(error)) return undefined;
      throw error;
    }
  };
  const isPast = async (stream: "USERS" | "FACTS"): Promise<boolean> => {
    const heartbeat = since && (await lastOf<{ data: { at: string } }>(stream, subjects.heartbeat(stream, "user")));
    return !!heartbeat && Date.parse(heartbeat.data.at) > since.getTime();
  };
  const state = await lastOf<{ type: string }>("USERS", subjects.user(userId));
  if (state?.type !== "quartet.user.tombstone.v1" && !(await isPast("USERS"))) return false;
  return (await lastOf("FACTS", subjects.fact("user", "erased", userId))) !== undefined || (await isPast("FACTS"));
}

/** Removes every fact and every dead letter that names the person, and looks whether any is left. */
export async function purgePerson(broker: Broker, userId: string): Promise<{ left: number }> {
  const jsm = await broker.require().jetstreamManager({ checkAPI: false, timeout: 5000 });
  const purge = async (stream: string, filter: string): Promise<number> => {
    await jsm.streams.purge(stream, { filter });
    const { state } = await jsm.streams.info(stream, { subjects_filter: filter });
    return Object.values(state.subjects ?? {}).reduce((sum, n) => sum + n, 0);
  };
  const [facts, dead] = await Promise.all([
    purge(STREAMS.FACTS.name, subjects.factsOf(userId)),
    purge(STREAMS.DEAD.name, subjects.deadOf(userId)),
  ]);
  return { left: facts + dead };
}
