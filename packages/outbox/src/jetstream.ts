import { createHash } from "node:crypto";
import { type ConnectionOptions, connect, type NatsConnection } from "nats";
import { BrokerError } from "./errors.ts";

/**
 * Connects without automatic reconnection: a lost connection must end the session, because what the stream holds afterwards has to be
 * verified before anything more is published.
 */
export async function connectNats(options: ConnectionOptions): Promise<NatsConnection> {
  try {
    return await connect({
      timeout: 2_000,
      pingInterval: 5_000,
      maxPingOut: 2,
      ...options,
      reconnect: false,
      waitOnFirstConnect: false,
    });
  } catch (error) {
    throw new BrokerError(`NATS is not reachable: ${(error as Error).message}`, { cause: error });
  }
}

export interface StreamState {
  /** Creation time: tells one stream from a later one of the same name. */
  incarnation: string;
  firstSequence: number;
  lastSequence: number;
  /** Messages may have a time to live. */
  allowsTtl: boolean;
}

interface ApiError {
  error?: { code: number; err_code?: number; description?: string };
}

async function api<T>(nc: NatsConnection, subject: string, body: object, timeout: number): Promise<T & ApiError> {
  try {
    const reply = await nc.request(`$JS.API.${subject}`, JSON.stringify(body), { timeout });
    return reply.json<T & ApiError>();
  } catch (error) {
    throw new BrokerError(`JetStream did not answer ${subject}: ${(error as Error).message}`, { cause: error });
  }
}

/** @throws BrokerError if the stream does not exist or nobody answers */
export async function streamState(nc: NatsConnection, stream: string, timeoutMs = 2_000): Promise<StreamState> {
  const info = await api<{
    created: string;
    config: { allow_msg_ttl?: boolean };
    state: { first_seq: number; last_seq: number };
  }>(nc, `STREAM.INFO.${stream}`, {}, timeoutMs);
  if (info.error) throw new BrokerError(`stream ${stream}: ${info.error.description ?? info.error.code}`);
  return {
    incarnation: info.created,
    firstSequence: info.state.first_seq,
    lastSequence: info.state.last_seq,
    allowsTtl: info.config.allow_msg_ttl === true,
  };
}

const NO_MESSAGE_FOUND = 10037;

/** Digest of the message at a sequence, or undefined if it is no longer there (compacted, expired, purged). */
export async function messageDigest(nc: NatsConnection, stream: string, seq: number): Promise<string | undefined> {
  const reply = await api<{ message?: { subject: string; data?: string } }>(
    nc,
    `STREAM.MSG.GET.${stream}`,
    { seq },
    2_000,
  );
  if (reply.error?.err_code === NO_MESSAGE_FOUND || reply.error?.code === 404) return undefined;
  if (reply.error || !reply.message) {
    throw new BrokerError(`message ${seq} of ${stream}: ${reply.error?.description ?? "no message"}`);
  }
  return digest(reply.message.subject, Buffer.from(reply.message.data ?? "", "base64"));
}

/** What a checkpoint remembers of the message it names, so that nothing has to be added to the message itself. */
export function digest(subject: string, payload: string | Uint8Array): string {
  return createHash("sha256").update(subject).update("\0").update(payload).digest("base64url");
}
