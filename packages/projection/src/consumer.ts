import type { NatsConnection } from "nats";
import { JetStreamFailure } from "./errors.ts";
import { type ConsumerInfo, consumerInfo, NOT_FOUND, streamInfo, writeConsumer } from "./jsapi.ts";

/** One life of a stream and of our durable consumer on it. Sequences mean something only within it. */
export interface Incarnation {
  streamCreated: string;
  consumerCreated: string;
  /** The stream forgets superseded messages of a subject. */
  compacted: boolean;
}

export interface ConsumerSpec {
  stream: string;
  consumer: string;
  ackWaitMs: number;
  maxAckPending: number;
}

const NANOS = 1_000_000;

function wanted(spec: ConsumerSpec) {
  return {
    durable_name: spec.consumer,
    name: spec.consumer,
    ack_policy: "explicit",
    ack_wait: spec.ackWaitMs * NANOS,
    max_deliver: -1,
    deliver_policy: "all",
    replay_policy: "instant",
    max_ack_pending: spec.maxAckPending,
  };
}

async function find(nc: NatsConnection, spec: ConsumerSpec): Promise<ConsumerInfo | undefined> {
  try {
    return await consumerInfo(nc, spec.stream, spec.consumer);
  } catch (error) {
    // 10059 is the stream: that is for the caller.
    if (error instanceof JetStreamFailure && error.status === NOT_FOUND && error.code !== 10_059) return undefined;
    throw error;
  }
}

/**
 * Makes sure that the durable consumer exists with our settings; safe from several replicas at once. Throws JetStreamFailure (404) while the stream does
 * not exist. A consumer that somebody deleted is made anew from the beginning: everything comes again, and the store does not care.
 */
export async function ensureConsumer(nc: NatsConnection, spec: ConsumerSpec): Promise<Incarnation> {
  const stream = await streamInfo(nc, spec.stream);
  const config = wanted(spec);
  let info = await find(nc, spec);
  if (!info || Object.entries(config).some(([key, value]) => info?.config[key] !== value)) {
    info = await writeConsumer(nc, spec.stream, { ...info?.config, ...config });
  }
  return {
    streamCreated: stream.created,
    consumerCreated: info.created,
    compacted: (stream.config.max_msgs_per_subject ?? -1) > 0,
  };
}
