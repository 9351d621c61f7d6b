import { CONSUMERS, STREAMS, subjects } from "@quartet/contracts";
import { type Broker, type ConsumerState, inspectConsumer } from "@quartet/projection";
import { NatsError } from "nats";

const { stream, durable } = CONSUMERS.analytics;

/** How far the projector is. Throws while the broker is away. */
export function progress(broker: Broker): Promise<ConsumerState> {
  return inspectConsumer(broker.require(), stream, durable);
}

/** Whether everything up to a position of FACTS is in the store. */
export async function hasPassed(broker: Broker, position: { seq: number; stream: string }): Promise<boolean> {
  if (!broker.up) return false;
  const state = await progress(broker);
  return (
    Date.parse(state.streamCreated) === Date.parse(position.stream) && (state.ackFloor >= position.seq || state.idle)
  );
}

/** Whether the projector has passed the last message that names this person. */
export async function hasPassedPerson(broker: Broker, userId: string): Promise<boolean> {
  const jsm = await broker.require().jetstreamManager({ checkAPI: false, timeout: 2000 });
  let last = 0;
  try {
    last = (await jsm.streams.getMessage(STREAMS.FACTS.name, { last_by_subj: subjects.factsOf(userId) })).seq;
  } catch (error) {
    if (!(error instanceof NatsError && error.api_error?.code === 404)) throw error;
  }
  const state = await progress(broker);
  return state.ackFloor >= last || state.idle;
}
