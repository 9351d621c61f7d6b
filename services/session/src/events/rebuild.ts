import { CONSUMERS, inboxPrefix, rebuildConsumer } from "@quartet/contracts";
import { Broker, followRebuilds, replayProgress } from "@quartet/projection";
import { type Logger, type Rebuilds, watchTask } from "@quartet/service";
import type { Refill } from "../store/refill.ts";
import { createRefillProjector } from "./projector.ts";

const { stream } = CONSUMERS.session;
const consumer = rebuildConsumer("session");

/** The connection for looking and for starting over. */
export function connectBroker(url: string, logger: Logger): Broker {
  const options = { pingInterval: 2000, maxPingOut: 2 };
  return new Broker({ url, name: "session", inboxPrefix: inboxPrefix("session"), options }, logger);
}

/** Filling the profile copies anew from USERS. `work` is the store as the workers use it, `ask` as a request does. */
export function createRebuilds(options: {
  ask: Refill;
  work: Refill;
  broker: Broker;
  natsUrl: string;
  isFault(error: unknown): boolean;
  logger: Logger;
}): Rebuilds & { follow(signal: AbortSignal): Promise<void> } {
  const { ask, work, broker, natsUrl, isFault, logger } = options;
  return {
    start: () => ask.start(),
    async state() {
      const { id, begun, tidying, startedAt, finishedAt } = await ask.state();
      const running = id !== undefined || tidying;
      const nothing = { done: 0, total: 0 };
      const progress = id && begun ? await replayProgress(broker.require(), stream, consumer) : nothing;
      const state = running ? "running" : startedAt ? "complete" : "none";
      return { state, ...progress, startedAt, finishedAt: running ? null : finishedAt };
    },
    follow: (signal) =>
      followRebuilds(
        {
          stream,
          consumer,
          async current() {
            const { id, begun } = await work.state();
            return id === undefined ? undefined : { id, begun };
          },
          begun: (id) => work.begun(id),
          project: (id, watermark) =>
            createRefillProjector(
              natsUrl,
              { apply: (events) => work.apply(id, events), isFault },
              { logger, watermark },
            ),
          swap: (id) => work.take(id),
          cleanUp: () => work.tidyUp(),
        },
        { connection: () => broker.require(), logger, watch: watchTask("rebuild", { logger }), signal },
      ),
  };
}
