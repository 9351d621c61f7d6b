import { CONSUMERS, rebuildConsumer } from "@quartet/contracts";
import { type Broker, followRebuilds, replayProgress } from "@quartet/projection";
import { type Logger, type Rebuilds, watchTask } from "@quartet/service";
import type { SearchRebuild } from "../store/rebuild.ts";
import { createRebuildProjector } from "./projector.ts";

const { stream } = CONSUMERS.search;
const consumer = rebuildConsumer("search");

/** Filling an index anew from USERS. */
export function createRebuilds(options: {
  store: SearchRebuild;
  broker: Broker;
  natsUrl: string;
  logger: Logger;
}): Rebuilds & { follow(signal: AbortSignal): Promise<void> } {
  const { store, broker, natsUrl, logger } = options;
  return {
    start: () => store.start(),
    async state() {
      const { next, last } = await store.marks();
      if (next) {
        const progress = next.begun ? await replayProgress(broker.require(), stream, consumer) : { done: 0, total: 0 };
        return { state: "running", ...progress, startedAt: next.startedAt, finishedAt: null };
      }
      const { startedAt = null, finishedAt = null } = last ?? {};
      return { state: last ? "complete" : "none", done: 0, total: 0, startedAt, finishedAt };
    },
    follow: (signal) =>
      followRebuilds(
        {
          stream,
          consumer,
          async current() {
            const { next } = await store.marks();
            return next && { id: next.id, begun: next.begun };
          },
          begun: (id) => store.begun(id),
          project: (_id, watermark) => createRebuildProjector(natsUrl, store, { logger, watermark }),
          swap: (id) => store.swap(id),
          cleanUp: () => store.cleanUp(),
        },
        { connection: () => broker.require(), logger, watch: watchTask("rebuild", { logger }), signal },
      ),
  };
}
