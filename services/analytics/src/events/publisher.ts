import { type Outgoing, STREAMS } from "@quartet/contracts";
import type { Broker } from "@quartet/projection";
import { activity, createDependency, type Dependency } from "@quartet/service";
import { headers, type JetStreamClient, type NatsConnection } from "nats";

const ACK_TIMEOUT_MS = 1300;
const CREATED_FOR_MS = 2000;

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
  let created: { value: Promise<string>; at: number } | undefined;

  /** The stream's incarnation. Asked for before anything is published: should it be made anew after that, the position claims too little, not too much. */
  const incarnation = async (nc: NatsConnection): Promise<string> => {
    if (!created || performance.now() - created.at > CREATED_FOR_MS) {
      const value = nc
        .jetstreamManager({ checkAPI: false, timeout: ACK_TIMEOUT_MS })
        .then((jsm) => jsm.streams.info(STREAMS.FACTS.name))
        .then((info) => info.created);
      created = { value, at: performance.now() };
      value.catch(() => {
        created = undefined;
      });
    }
    return created.value;
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
        const stream = await incarnation(nc);
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
        );
        for (const { subject } of facts) activity.saw("publish.track", subject);
        return { seq: Math.max(...acks.map((ack) => ack.seq)), stream };
      }),
    close: () => dependency.close(),
  };
}
