import { CONSUMERS, rebuildConsumer } from "@quartet/contracts";
import { type Broker, followRebuilds, replayProgress } from "@quartet/projection";
import { type Logger, type Rebuilds, watchTask } from "@quartet/service";
import type { ClickHouse } from "../store/client.ts";
import { insertFacts } from "../store/facts.ts";
import { dropLeftOvers, exchange, NEXT, noteBegun, startRebuild, tableState } from "../store/rebuild.ts";
import type { FactAudit } from "./audit.ts";
import { createRebuildProjector, type FactStore } from "./projector.ts";

const { stream } = CONSUMERS.analytics;
const consumer = rebuildConsumer("analytics");

/** Filling the facts anew: a new table, FACTS replayed into it, Analytics' own older facts copied, names exchanged. */
export function createRebuilds(options: {
  clickhouse: ClickHouse;
  broker: Broker;
  audit: FactAudit;
  natsUrl: string;
  /** Of the live table: what concerns both stays as it is. */
  store: FactStore;
  logger: Logger;
}): Rebuilds & { follow(signal: AbortSignal): Promise<void> } {
  const { clickhouse, broker, audit, natsUrl, store, logger } = options;
  return {
    start: () => startRebuild(clickhouse),
    async state() {
      const { next, live } = await tableState(clickhouse);
      if (next) {
        const progress = next.begun ? await replayProgress(broker.require(), stream, consumer) : { done: 0, total: 0 };
        return { state: "running", ...progress, startedAt: next.startedAt, finishedAt: null };
      }
      const { startedAt = null, finishedAt = null } = live ?? {};
      return { state: live ? "complete" : "none", done: 0, total: 0, startedAt, finishedAt };
    },
    follow: (signal) =>
      followRebuilds(
        {
          stream,
          consumer,
          async current() {
            const { next } = await tableState(clickhouse);
            return next && { id: next.rebuild, begun: next.begun };
          },
          begun: (id) => noteBegun(clickhouse, id),
          project: (_id, watermark) =>
            createRebuildProjector(
              natsUrl,
              { ...store, insert: (facts) => insertFacts(clickhouse, facts, NEXT) },
              { logger, watermark },
            ),
          async swap(id) {
            // What the stream has forgotten is copied by the ledger's word: it has to know all.
            await audit.round();
            await exchange(clickhouse, id);
          },
          cleanUp: () => dropLeftOvers(clickhouse),
        },
        { connection: () => broker.require(), logger, watch: watchTask("rebuild", { logger }), signal },
      ),
  };
}
