import { Empty, type MsgHdrs, headers as makeHeaders, type NatsConnection } from "nats";
import { JetStreamFailure } from "./errors.ts";
import type { Position } from "./types.ts";

/**
 * The few JetStream requests a projector needs, as plain JSON. nats.js has a manager for them, but it asks for account rights a projector should not
 * have, and hides the fields the watermark is made of.
 */
const TIMEOUT_MS = 3_000;

export interface StreamInfo {
  created: string;
  config: { max_msgs_per_subject?: number };
  state: { last_seq: number; messages: number; subjects?: Record<string, number> };
}

export interface ConsumerInfo {
  created: string;
  config: Record<string, unknown>;
  delivered: { consumer_seq: number; stream_seq: number };
  ack_floor: { consumer_seq: number; stream_seq: number };
  num_ack_pending: number;
  num_pending: number;
}

export interface StoredMessage {
  seq: number;
  subject: string;
  time: string;
  /** Base64. */
  data?: string;
  /** Base64 of a header block. */
  hdrs?: string;
}

export const NOT_FOUND = 404;
/** JetStream's own error number; its status is a mere 400. */
const NO_SUCH_SEQUENCE = 10_043;

function check(answer: { error?: { description?: string; code?: number; err_code?: number } }): void {
  const error = answer.error;
  if (error) throw new JetStreamFailure(error.description ?? "JetStream error", error.code ?? 0, error.err_code ?? 0);
}

async function request<A>(nc: NatsConnection, subject: string, body?: object): Promise<A> {
  const reply = await nc.request(`$JS.API.${subject}`, body ? JSON.stringify(body) : Empty, { timeout: TIMEOUT_MS });
  const answer = JSON.parse(new TextDecoder().decode(reply.data)) as A & { error?: object };
  check(answer);
  return answer;
}

export function streamInfo(nc: NatsConnection, stream: string, subjectsFilter?: string): Promise<StreamInfo> {
  return request(nc, `STREAM.INFO.${stream}`, subjectsFilter ? { subjects_filter: subjectsFilter } : undefined);
}

export function consumerInfo(nc: NatsConnection, stream: string, consumer: string): Promise<ConsumerInfo> {
  return request(nc, `CONSUMER.INFO.${stream}.${consumer}`);
}

/** Creates a durable consumer, or brings an existing one up to date. */
export function writeConsumer(
  nc: NatsConnection,
  stream: string,
  config: { durable_name: string },
): Promise<ConsumerInfo> {
  return request(nc, `CONSUMER.CREATE.${stream}.${config.durable_name}`, { stream_name: stream, config });
}

export async function readMessage(
  nc: NatsConnection,
  stream: string,
  query: { seq: number; next_by_subj?: string },
): Promise<StoredMessage | undefined> {
  try {
    const answer = await request<{ message: StoredMessage }>(nc, `STREAM.MSG.GET.${stream}`, query);
    return answer.message;
  } catch (error) {
    if (error instanceof JetStreamFailure && error.status === NOT_FOUND) return undefined;
    throw error;
  }
}

export async function deleteMessage(nc: NatsConnection, stream: string, seq: number): Promise<boolean> {
  try {
    await request(nc, `STREAM.MSG.DELETE.${stream}`, { seq });
    return true;
  } catch (error) {
    if (error instanceof JetStreamFailure && (error.status === NOT_FOUND || error.code === NO_SUCH_SEQUENCE))
      return false;
    throw error;
  }
}

/** Publishes and waits until the stream has it. */
export async function publish(
  nc: NatsConnection,
  subject: string,
  data: Uint8Array,
  headers: MsgHdrs = makeHeaders(),
): Promise<{ stream: string; seq: number; duplicate?: boolean }> {
  const reply = await nc.request(subject, data, { timeout: TIMEOUT_MS, headers });
  const ack = JSON.parse(new TextDecoder().decode(reply.data)) as { stream: string; seq: number; duplicate?: boolean };
  check(ack as object);
  return ack;
}

/** Up to where everything is acknowledged, over all replicas. Null if there is no such consumer. */
export async function ackFloor(nc: NatsConnection, stream: string, consumer: string): Promise<Position | null> {
  try {
    // The stream first: if it is made anew in between, the floor is that of a young stream, so rather too low than too high.
    const { created } = await streamInfo(nc, stream);
    const info = await consumerInfo(nc, stream, consumer);
    return { seq: info.ack_floor.stream_seq, stream: created };
  } catch (error) {
    if (error instanceof JetStreamFailure && error.status === NOT_FOUND) return null;
    throw error;
  }
}

/**
 * Deletes the durable consumer, so that the projectors that share it read the stream from the beginning again: for a rebuild of the store. They notice within
 * two seconds and make it anew. Returns false if there was none.
 */
export async function resetConsumer(nc: NatsConnection, stream: string, consumer: string): Promise<boolean> {
  try {
    await request(nc, `CONSUMER.DELETE.${stream}.${consumer}`);
    return true;
  } catch (error) {
    if (error instanceof JetStreamFailure && error.status === NOT_FOUND) return false;
    throw error;
  }
}
