import type { NatsConnection } from "nats";
import { messageDigest, type StreamState, streamState } from "./jetstream.ts";

/**
 * One proof of how far a stream was: every event of the outbox up to `position` was acknowledged at or below `sequence` of that
 * incarnation of the stream. A bare sequence would prove nothing, a restored stream hands it out again.
 */
export interface Checkpoint<P> {
  at: Date;
  incarnation: string;
  sequence: number;
  eventId: string | null;
  /** Of the message at `sequence`; null if the checkpoint was taken of a stream to which this relay had published nothing. */
  digest: string | null;
  position: P;
}

export type Verdict<P> =
  /** Nothing was ever recorded of this stream. */
  | { kind: "new" }
  /** The newest checkpoint holds. */
  | { kind: "holds"; checkpoint: Checkpoint<P> }
  /** The newest one does not, an older one does: everything after it has to be sent again. */
  | { kind: "behind"; checkpoint: Checkpoint<P>; reason: string }
  /** There are checkpoints, none of them holds. */
  | { kind: "lost"; reason: string };

async function contradiction<P>(
  nc: NatsConnection,
  stream: string,
  state: StreamState,
  checkpoint: Checkpoint<P>,
): Promise<string | undefined> {
  if (checkpoint.incarnation !== state.incarnation) {
    return `created ${state.incarnation}, not ${checkpoint.incarnation}`;
  }
  if (checkpoint.sequence > state.lastSequence) {
    return `ends at ${state.lastSequence}, ${checkpoint.sequence} was acknowledged`;
  }
  // Sequence 0 is the empty stream, and a message below the first one is gone by right.
  if (checkpoint.digest === null || checkpoint.sequence < state.firstSequence) return undefined;
  const found = await messageDigest(nc, stream, checkpoint.sequence);
  if (found !== undefined && found !== checkpoint.digest) return `holds another message at ${checkpoint.sequence}`;
  return undefined;
}

/** What a store remembers of one stream. */
export interface History<P> {
  /** Newest first, without those that were found false before. */
  checkpoints: Checkpoint<P>[];
  /** Any checkpoint was ever written, false ones included. */
  known: boolean;
  /** The newest one was found false before: a relay died before it had sent again what was missing. */
  unfinished: boolean;
}

/**
 * Compares a stream with what the store remembers of it.
 * @throws BrokerError if the stream cannot be asked
 */
export async function verifyStream<P>(
  nc: NatsConnection,
  stream: string,
  { checkpoints, known, unfinished }: History<P>,
): Promise<{ state: StreamState; verdict: Verdict<P> }> {
  const state = await streamState(nc, stream);
  let reason = "an earlier repair was not finished";
  for (const [i, checkpoint] of checkpoints.entries()) {
    const why = await contradiction(nc, stream, state, checkpoint);
    if (why === undefined) {
      const newest = i === 0 && !unfinished;
      return { state, verdict: newest ? { kind: "holds", checkpoint } : { kind: "behind", checkpoint, reason } };
    }
    if (i === 0) reason = why;
  }
  return { state, verdict: known ? { kind: "lost", reason } : { kind: "new" } };
}

/** Thins a history to keep: all of the last minute, then one a minute for a day, then one an hour. Newest first in and out. */
export function thin<T extends { at: Date }>(history: T[], now: Date): T[] {
  const kept: T[] = [];
  let last: string | undefined;
  for (const entry of history) {
    const age = now.getTime() - entry.at.getTime();
    const slot = age < 60_000 ? `${entry.at.getTime()}` : entry.at.toISOString().slice(0, age < 86_400_000 ? 16 : 13);
    if (slot !== last) kept.push(entry);
    last = slot;
  }
  return kept;
}
