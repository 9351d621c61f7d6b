import type { NatsConnection } from "nats";
import { JetStreamFailure } from "./errors.ts";
import { type ConsumerInfo, consumerInfo, NOT_FOUND, readMessage, streamInfo, writeConsumer } from "./jsapi.ts";

/** One life of a stream and of our durable consumer on it. Sequences mean something only within it. */
export interface Incarnation {
  streamCreated: string;
  consumerCreated: string;
  /** The stream forgets superseded messages of a subject. */
  compacted: boolean;
}

/** How far stream and consumer were when they were looked at. */
export interface Extent {
  /** The stream's last sequence. */
  end: number;
  /** Deliveries of the consumer so far. */
  delivered: number;
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
export async function ensureConsumer(nc: NatsConnection, spec: ConsumerSpec): Promise<Incarnation & Extent> {
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
    end: stream.state.last_seq,
    delivered: info.delivered.consumer_seq,
  };
}

/** So many of the newest are looked for: on a compacted stream most are superseded and gone. */
const LOOKED_FOR = 128;
const AT_ONCE = 16;

/**
 * Whether a stream still has what it delivered. A server that was killed may come back without what it had not fsynced, and gives those sequences to other
 * messages: an acknowledgement, which names a bare sequence, would then be for a message that nobody has seen. What is there no longer cannot be hit;
 * what is there was stored at the time we know, or is another message. Everything before an intact one is intact.
 */
export async function isIntact(
  nc: NatsConnection,
  stream: string,
  end: number,
  delivered: Iterable<{ seq: number; time: Date }>,
): Promise<boolean> {
  const newest = [...delivered].sort((a, b) => b.seq - a.seq).slice(0, LOOKED_FOR);
  if (newest.length > 0 && newest[0]!.seq > end) return false;
  for (let i = 0; i < newest.length; i += AT_ONCE) {
    const some = newest.slice(i, i + AT_ONCE);
    const found = await Promise.all(some.map(({ seq }) => readMessage(nc, stream, { seq })));
    const first = found.findIndex((message) => message !== undefined);
    if (first >= 0) return Date.parse(found[first]!.time) === some[first]!.time.getTime();
  }
  return true;
}
