import { emit, HEARTBEAT_TTL_SECONDS, type Outgoing, SOURCES, STREAMS } from "@quartet/contracts";
import {
  appendOutbox,
  createPostgresRelay,
  type OutboxEvent,
  outboxMigration,
  type StreamLoss,
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
import { natsOptions } from "./nats.ts";
import type { AppendEvents, Migration } from "./ports.ts";

export const SLOT = "user_relay";
const PUBLICATION = "user_outbox";
const HEARTBEAT_MS = 500;
const headers = { "Content-Type": "application/cloudevents+json" };

function toOutbox({ event, stream, subject, msgId, key }: Outgoing): OutboxEvent {
  return {
    id: event.id,
    stream,
    subject,
    msgId: msgId ?? undefined,
    key: key ?? "",
    ...(event.traceparent ? { headers: { traceparent: event.traceparent } } : {}),
    payload: JSON.stringify(event),
  };
}

/** Writes events into the outbox within the caller's transaction. */
export const appendEvents: AppendEvents = (client, events) => appendOutbox(client, events.map(toOutbox));

/** The tables of the outbox, as a step of this service's migrations. */
export const outboxTables: Migration = {
  name: "outbox",
  sql: `${outboxMigration(PUBLICATION).join(";\n")};`,
  repeatable: true,
};

/** PostgreSQL's WAL -> USERS and FACTS, with the heartbeats of the source `user`. */
export function createUserRelay(
  options: {
    postgresUrl: string;
    natsUrl: string;
    retentionDays: number;
    onStreamLost: (loss: StreamLoss) => Promise<void>;
    /** See PostgresRelayOptions. */
    beforeSession: () => Promise<void>;
  },
  { logger, metrics }: { logger: Logger; metrics: Metrics },
) {
  const relay = createPostgresRelay({
    connectionString: options.postgresUrl,
    slot: SLOT,
    publication: PUBLICATION,
    nats: natsOptions(options.natsUrl, "user relay"),
    streams: {
      [STREAMS.USERS.name]: { fence: STREAMS.USERS.fenced, headers },
      [STREAMS.FACTS.name]: { fence: STREAMS.FACTS.fenced, headers },
    },
    retentionDays: options.retentionDays,
    heartbeat: {
      everyMs: HEARTBEAT_MS,
      build: (at) => [
        toOutbox(emit.heartbeat("USERS", "user", new Date(at))),
        {
          ...toOutbox(emit.heartbeat("FACTS", "user", new Date(at))),
          headers: { [TTL_HEADER]: `${HEARTBEAT_TTL_SECONDS}s` },
        },
      ],
    },
    onStreamLost: options.onStreamLost,
    beforeSession: options.beforeSession,
    ...(unsafe.has("drop-ack") ? { unsafe: { dropEvery: DROP_EVERY } } : {}),
    logger,
    onTask: relayTasks(logger),
    metrics: relayMetrics(metrics, "user"),
  });
  observeRelay(metrics, "user", SOURCES.user, relay);
  return relay;
}
