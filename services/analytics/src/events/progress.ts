import { CONSUMERS, STREAMS, subjects } from "@quartet/contracts";
import { type Broker, type ConsumerState, inspectConsumer } from "@quartet/projection";
import { soon } from "@quartet/service";
import { NatsError } from "nats";

const { stream, durable } = CONSUMERS.analytics;

/** A frozen broker is noticed only after seconds; who asks in the name of a request has not so much time. */
const LOOK_MS = 700;

/** How far the projector is. Throws while the broker is away or does not answer soon. */
export async function progress(broker: Broker): Promise<ConsumerState> {
  return soon(LOOK_MS, "nats", inspectConsumer(broker.require(), stream, durable));
}

/** Whether the projector has passed the last message that names this person. Throws as `progress` does. */
export async function hasPassedPerson(broker: Broker, userId: string): Promise<boolean> {
  const last = await lastOfSoon(broker, userId);
  const state = await progress(broker);
  return state.settled >= last;
}

async function lastOf(broker: Broker, userId: string): Promise<number> {
  const jsm = await broker.require().jetstreamManager({ checkAPI: false, timeout: LOOK_MS });
  try {
    return (await jsm.streams.getMessage(STREAMS.FACTS.name, { last_by_subj: subjects.factsOf(userId) })).seq;
  } catch (error) {
    if (error instanceof NatsError && error.api_error?.code === 404) return 0;
    throw error;
  }
}

/** The sequence of the last message that names this person; 0 if there is none. Throws as `progress` does. */
export const lastOfSoon = (broker: Broker, userId: string): Promise<number> =>
  soon(LOOK_MS, "nats", lastOf(broker, userId));
