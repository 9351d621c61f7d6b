import type { NatsConnection } from "nats";
import { pause } from "./backoff.ts";
import { BrokerUnavailable } from "./broker.ts";
import { JetStreamFailure } from "./errors.ts";
import { consumerInfo, resetConsumer, streamInfo } from "./jsapi.ts";
import type { Logger, Projector } from "./types.ts";

const LOOK_EVERY_MS = 1_500;
const RETRY_MS = 1_000;
/** How far the clocks of two machines may be apart. */
const CLOCKS_DIFFER_MS = 1_000;

/** The rebuild that a store says is under way. */
export interface RebuildUnderWay {
  id: string;
  /** Its replay has been begun: the consumer is its own and keeps its place over a restart. */
  begun: boolean;
}

/** What a service says of how its store is rebuilt. All of it is kept in the store, so that any process, also one that was killed, goes on with it. */
export interface RebuildPlan {
  /** The stream that is replayed, and the durable consumer that does it (another one than the read model's own). */
  stream: string;
  consumer: string;
  /** Looks into the store. */
  current(): Promise<RebuildUnderWay | undefined>;
  /** Notes in the store that the replay has begun. */
  begun(id: string): Promise<void>;
  /** A projector that fills the new place. `watermark` is for each of its watermarks. */
  project(id: string, watermark: (source: string, at: Date) => void): Projector;
  /** Puts the new place where the old one is. Once more does no harm. */
  swap(id: string): Promise<void>;
  /** Takes away what is left of old places, if it is time. Called again and again. */
  cleanUp(): Promise<void>;
}

/**
 * Carries out the rebuilds of a store, for ever: replays the stream into a new place by a consumer of its own, and puts that in the old one's stead at its
 * first watermark of an instant after the replay began. Why that is enough: whoever writes to the old place looks first whether there is a new one and then
 * writes to both. What was written without looking up the new one had been committed by its owner before the replay began (it came by the stream, or by a
 * call), and such a watermark says that all of that is in the new place: an older one, which a stream keeps while its relay stands still, does not. So from
 * then on the new place holds whatever the old one does.
 */
export async function followRebuilds(
  plan: RebuildPlan,
  {
    connection,
    logger,
    watch,
    signal,
  }: {
    connection(): NatsConnection;
    logger: Logger;
    /** Told after each look whether it went well. */
    watch?: { ok(): void; failed(error: unknown): void };
    signal: AbortSignal;
  },
): Promise<void> {
  let told = false;
  while (!signal.aborted) {
    let wait = LOOK_EVERY_MS;
    try {
      const current = await plan.current();
      if (current) await carryOut(plan, current, { connection, logger, signal });
      else await plan.cleanUp();
      told = false;
      watch?.ok();
    } catch (error) {
      watch?.failed(error);
      // A store that is away says the same every second.
      const quiet: boolean = told || error instanceof BrokerUnavailable;
      told ||= !quiet;
      logger[quiet ? "debug" : "warn"]({ error: String(error) }, "the rebuild has to wait");
      wait = RETRY_MS;
    }
    await pause(wait, signal);
  }
}

async function carryOut(
  plan: RebuildPlan,
  { id, begun }: RebuildUnderWay,
  { connection, logger, signal }: { connection(): NatsConnection; logger: Logger; signal: AbortSignal },
): Promise<void> {
  if (!begun) {
    await resetConsumer(connection(), plan.stream, plan.consumer);
    await plan.begun(id);
    logger.info({ rebuild: id }, "rebuild: the stream is replayed");
  }
  const stop = new AbortController();
  let caughtUp = false;
  const since = Date.now() + CLOCKS_DIFFER_MS;
  const projector = plan.project(id, (_source, at) => {
    if (at.getTime() <= since) return;
    caughtUp = true;
    stop.abort();
  });
  const watch = setInterval(() => {
    // Another replica may have come to the end of it.
    plan.current().then(
      (now) => now?.id !== id && stop.abort(),
      () => {},
    );
  }, 2_000);
  try {
    await projector.run(AbortSignal.any([signal, stop.signal]));
  } finally {
    clearInterval(watch);
  }
  if (!caughtUp) {
    // The replica that came to the end deleted the consumer; this one may have made it anew in that moment.
    if (!signal.aborted && (await plan.current())?.id !== id)
      await resetConsumer(connection(), plan.stream, plan.consumer);
    return;
  }
  await plan.swap(id);
  logger.info({ rebuild: id }, "rebuild: the new place is in use");
  await resetConsumer(connection(), plan.stream, plan.consumer);
}

/** A decoder for a replay: what cannot be read is null there, because the projector of the place in use has parked it. */
export function passOver<Message, Event>(decode: (message: Message) => Event): (message: Message) => Event | null {
  return (message) => {
    try {
      return decode(message);
    } catch {
      return null;
    }
  };
}

/** How much of the stream a replay has delivered and settled, in messages. Throws when the broker does not answer. */
export async function replayProgress(
  nc: NatsConnection,
  stream: string,
  consumer: string,
): Promise<{ done: number; total: number }> {
  const [{ state }, info] = await Promise.all([
    streamInfo(nc, stream),
    consumerInfo(nc, stream, consumer).catch((error: unknown) => {
      if (error instanceof JetStreamFailure && error.status === 404) return undefined;
      throw error;
    }),
  ]);
  const left = info ? info.num_pending + info.num_ack_pending : state.messages;
  return { done: Math.max(0, state.messages - left), total: state.messages };
}
