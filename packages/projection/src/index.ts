/** Everything this package offers. */
export { Broker, BrokerUnavailable, type ConsumerState, inspectConsumer } from "./broker.ts";
export { natsOptions } from "./connection.ts";
export { type DeadLetter, type DeadLetters, type DeadLettersOptions, deadLetters } from "./deadletters.ts";
export {
  JetStreamFailure,
  NoSuchLetter,
  PayloadOmitted,
  PoisonMessage,
  RetainedState,
  StoreUnavailable,
} from "./errors.ts";
export { type Folded, latestPerKey } from "./fold.ts";
export { ackFloor, resetConsumer } from "./jsapi.ts";
export { pacer } from "./pace.ts";
export { DEAD as DEAD_LETTER_HEADERS } from "./parking.ts";
export { createProjector } from "./projector.ts";
export { readStream } from "./read.ts";
export { followRebuilds, passOver, type RebuildPlan, type RebuildUnderWay, replayProgress } from "./rebuild.ts";
export type {
  DeadLetterOptions,
  HeartbeatOptions,
  Item,
  Logger,
  Metrics,
  NatsSource,
  Position,
  Projector,
  ProjectorOptions,
  ProjectorState,
  ProjectorStatus,
  RawMessage,
  Unsafe,
  Verdict,
  WatermarkContext,
} from "./types.ts";
