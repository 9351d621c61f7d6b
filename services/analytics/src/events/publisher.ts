import { type Outgoing, STREAMS } from "@quartet/contracts";
import type { Broker } from "@quartet/projection";
import { activity, createDependency, type Dependency, HttpProblem } from "@quartet/service";
import { headers, type JetStreamClient, type NatsConnection, NatsError } from "nats";

const ACK_TIMEOUT_MS = 1300;
const KNOWN_FOR_MS = 1000;
/** Tracked events have so much of the stream's share; the rest is for facts that stand in an outbox already. */
const SHARE = 0.9;
/** JetStream's code for a stream that is full. */
const MAXIMUM_BYTES = 10077;

/** A position in one incarnation of FACTS. */
export interface Position {
  seq: number;
  /** When the stream was created. */
  stream: string;
}

export interface FactPublisher {
  readonly dependency: Dependency;
  /**
   * Publishes facts and resolves with the highest position once JetStream has acknowledged all of them. Otherwise `unavailable("nats")`: some may be stored,
   * the outcome is unknown; their ids make a repeat count once.
   */
  publish(facts: Outgoing[]): Promise<Position>;
  close(): void;
}

/** Tracked events have no outbox: JetStream's acknowledgement is what the caller's 202 stands for. */
export function createFactPublisher(broker: Broker): FactPublisher {
  const dependency = createDependency("nats", { timeoutMs: 1500 });
  let connection: NatsConnection | undefined;
  let js: JetStreamClient | undefined;
  let known: { value: Promise<{ created: string; full: boolean }>; at: number } | undefined;

  /** The stream's incarnation, and whether it has room. Asked for before anything is published: should it be made anew after that, the position claims too little, not too much. */
  const look = async (nc: NatsConnection): Promise<{ created: string; full: boolean }> => {
    if (!known || performance.now() - known.at > KNOWN_FOR_MS) {
      const value = nc
        .jetstreamManager({ checkAPI: false, timeout: ACK_TIMEOUT_MS })
        .then((jsm) => jsm.streams.info(STREAMS.FACTS.name))
        .then(({ created, config, state }) => ({
          created,
          full: config.max_bytes > 0 && state.bytes >= SHARE * config.max_bytes,
        }));
      known = { value, at: performance.now() };
      value.catch(() => {
        known = undefined;
      });
    }
    return known.value;
  };

  return {
    dependency,
    publish: (facts) =>
      dependency.run(async () => {
        const nc = broker.require();
        if (nc !== connection) {
          connection = nc;
          js = nc.jetstream({ timeout: ACK_TIMEOUT_MS });
        }
        const { created: stream, full } = await look(nc);
        if (full) throw logFull();
        const acks = await Promise.all(
          facts.map(({ subject, msgId, event }) => {
            const h = headers();
            h.set("Content-Type", "application/cloudevents+json");
            if (event.traceparent) h.set("traceparent", event.traceparent);
            return (js as JetStreamClient).publish(subject, JSON.stringify(event), {
              headers: h,
              ...(msgId ? { msgID: msgId } : {}),
              expect: { streamName: STREAMS.FACTS.name },
              timeout: ACK_TIMEOUT_MS,
            });
          }),
        ).catch((error: unknown) => {
          throw error instanceof NatsError && error.api_error?.err_code === MAXIMUM_BYTES ? logFull(error) : error;
        });
        for (const { subject } of facts) activity.saw("publish.track", subject);
        return { seq: Math.max(...acks.map((ack) => ack.seq)), stream };
      }),
    close: () => dependency.close(),
  };
}

function logFull(cause?: unknown): HttpProblem {
  return new HttpProblem(503, {
    slug: "log-full",
    detail: "the log of what happened is full: events are taken again when there is room",
    headers: { "Retry-After": "10" },
    cause,
  });
}
