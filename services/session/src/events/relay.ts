import { emit, HEARTBEAT_TTL_SECONDS, type Outgoing, SOURCES, STREAMS } from "@quartet/contracts";
import {
  countRedisOutboxEntries,
  createRedisRelay,
  deleteRedisOutboxEntries,
  type OutboxEvent,
  type RedisCommands,
  TTL_HEADER,
} from "@quartet/outbox";
import {
  DROP_EVERY,
  type Logger,
  type Metrics,
  observeRelay,
  relayMetrics,
  relayTasks,
  unsafe,
} from "@quartet/service";
import type { RedisTarget } from "../store/target.ts";
import { natsOptions } from "./nats.ts";

const HEARTBEAT_MS = 500;
/** A connection on which Redis owes an answer for so long is given up; the relay's longest wait for one is a second. */
const SILENCE_MS = 8000;

function toOutbox({ event, stream, subject, msgId, key }: Outgoing): OutboxEvent {
  return { id: event.id, stream, subject, msgId: msgId ?? undefined, key: key ?? "", payload: JSON.stringify(event) };
}

/** Redis outbox -> FACTS, with the heartbeats of the source `session`. */
export function createSessionRelay(
  options: { redis: RedisTarget; natsUrl: string; prefix: string; retentionMs: number },
  { logger, metrics }: { logger: Logger; metrics: Metrics },
) {
  const relay = createRedisRelay({
    url: options.redis.url,
    redis: { ...options.redis.options, socketTimeout: SILENCE_MS },
    prefix: options.prefix,
    nats: natsOptions(options.natsUrl, "session relay"),
    streams: { [STREAMS.FACTS.name]: { fence: false, headers: { "Content-Type": "application/cloudevents+json" } } },
    heartbeat: {
      everyMs: HEARTBEAT_MS,
      build: (at) => [
        {
          ...toOutbox(emit.heartbeat("FACTS", "session", new Date(at))),
          headers: { [TTL_HEADER]: `${HEARTBEAT_TTL_SECONDS}s` },
        },
      ],
    },
    retentionMs: options.retentionMs,
    ...(unsafe.has("drop-ack") ? { unsafe: { dropEvery: DROP_EVERY } } : {}),
    logger,
    onTask: relayTasks(logger),
    metrics: relayMetrics(metrics, "session"),
  });
  observeRelay(metrics, "session", SOURCES.session, relay);
  return relay;
}

/** The outbox entries of one person. */
export interface PersonsOutbox {
  /** How many are not relayed yet. */
  pending(userId: string): Promise<number>;
  /** Deletes those that are relayed; returns how many are not yet. */
  erase(userId: string): Promise<number>;
}

export function personsOutbox(redis: RedisCommands, prefix: string): PersonsOutbox {
  return {
    pending: (userId) => countRedisOutboxEntries(redis, userId, { prefix }),
    erase: async (userId) => (await deleteRedisOutboxEntries(redis, userId, { prefix })).pending,
  };
}
