import { setTimeout as sleep } from "node:timers/promises";
import {
  loadConfig,
  loadKeyring,
  metrics,
  observeBroker,
  runProcess,
  shareActivity,
  superviseWorker,
  type Worker,
  watchTask,
} from "@quartet/service";
import { configSchema } from "./config.ts";
import { connectBroker, createUserProjector, progress, replay } from "./events/projector.ts";
import { createRebuilds } from "./events/rebuild.ts";
import { createApp } from "./http/app.ts";
import { createContext } from "./http/context.ts";
import { connectElasticsearch, elasticsearchDependency } from "./store/client.ts";
import { observeElasticsearch } from "./store/figures.ts";
import {
  ensureIndexes,
  type IndexOptions,
  indexNames,
  indexState,
  isOurs,
  noteReplay,
  replayState,
} from "./store/indexes.ts";
import { createSearchRebuild } from "./store/rebuild.ts";
import { createStore } from "./store/store.ts";
import { countLiving, refresh, StoreAway, writeUsers, writeUsersToNext, writeWatermark } from "./store/users.ts";
import { warmUp } from "./store/warmup.ts";

const LOOK_EVERY_MS = 1000;

const config = loadConfig(configSchema);
const keyring = loadKeyring("search", config);
const has = (role: "api" | "projector") => config.ROLE === "all" || config.ROLE === role;

await runProcess({
  name: "search",
  config,
  start: ({ logger }) => {
    const names = indexNames(config.INDEX_PREFIX);
    // Every request of a reader has its own deadline, which is seldom longer than that of `elasticsearch`.
    const client = connectElasticsearch(config.ELASTICSEARCH_URL, 12_000);
    const slow = connectElasticsearch(config.ELASTICSEARCH_URL, 30_000);
    const elasticsearch = elasticsearchDependency(1500);
    const broker = connectBroker(config.NATS_URL, logger);
    observeElasticsearch(metrics, client, elasticsearch, names);
    observeBroker(metrics, broker);
    const endSharing = shareActivity("search", config.ROLE, broker);
    const workers: Worker[] = [];
    const supervise = (name: string, work: (signal: AbortSignal) => Promise<void>) =>
      workers.push(superviseWorker(name, work, { logger }));

    const options: IndexOptions = {
      names,
      replicas: config.INDEX_REPLICAS,
      refreshInterval: config.REFRESH_INTERVAL,
    };
    /** Whether the index in use has the mapping of this code. Until then it is left to those who made it, and answers as it is. */
    let ours = true;
    let warm = config.WARM_UP_MS === 0;
    let wake: () => void = () => {};
    const watch = watchTask("index", { logger });
    // For ever, not once: a wiped store gets its index back, and the stream is replayed into it.
    supervise("index", async (signal) => {
      while (!signal.aborted) {
        const pause = new AbortController();
        wake = () => pause.abort();
        let wait = LOOK_EVERY_MS;
        try {
          await ensureIndexes(slow, options);
          ours = (await indexState(slow, names)).live.every(isOurs);
          if (has("projector") && ours) {
            const { index, replayed } = await replayState(slow, names);
            if (!replayed) {
              await replay(broker);
              await noteReplay(slow, index);
              logger.info({ index }, "new index: the stream is replayed into it");
            }
          }
          watch.ok();
          if (!warm) await warmUp(slow, config.INDEX_PREFIX, config.WARM_UP_MS, signal);
          warm = true;
        } catch (error) {
          wait = 500;
          watch.failed(error);
        }
        await sleep(wait, undefined, { signal: AbortSignal.any([signal, pause.signal]) }).catch(() => {});
      }
    });

    const rebuilds = createRebuilds({
      store: createSearchRebuild(slow, options),
      broker,
      natsUrl: config.NATS_URL,
      logger,
    });
    if (has("projector")) {
      const projector = createUserProjector(
        config.NATS_URL,
        {
          async write(events, { refresh }) {
            try {
              // Both, from the moment there are two: see followRebuilds.
              await writeUsersToNext(slow, names, events);
              return await writeUsers(slow, names, events, { refresh });
            } catch (error) {
              if (error instanceof StoreAway && error.indexMissing) wake();
              throw error;
            }
          },
          refresh: () => refresh(slow, names),
          async writeWatermark(source, at) {
            // An index that was made anew a moment ago is not yet what the stream's consumer has filled.
            const { replayed, since } = await replayState(slow, names);
            if (!replayed) throw new StoreAway("the index is new");
            if (at.getTime() > since) await writeWatermark(slow, names, source, at);
          },
          ping: async () => void (await countLiving(slow, names)),
        },
        { logger, metrics },
      );
      supervise("projector", async (signal) => {
        while (!signal.aborted) {
          const stop = new AbortController();
          const watch = setInterval(() => ours || stop.abort(), 200);
          if (ours) await projector.run(AbortSignal.any([signal, stop.signal]));
          else await sleep(200, undefined, { signal }).catch(() => {});
          clearInterval(watch);
        }
      });
      supervise("rebuild", (signal) => rebuilds.follow(signal));
    }

    const context = createContext(createStore(client, slow, names), elasticsearch, {
      maxWaiting: config.MAX_WAITING,
    });
    const app = has("api")
      ? createApp(context, {
          logger,
          keyring,
          rebuilds,
          progress: () => progress(broker),
          brokerAnswers: () => broker.answers(),
        })
      : undefined;
    return {
      ...(app ? { app } : {}),
      workers,
      ready: async () => {
        if (!ours) throw new Error("the index in use has another mapping: its successor is being filled");
        if (!warm) throw new Error("Elasticsearch is being warmed up");
        await elasticsearch.run(() => countLiving(client, names));
      },
      close: async () => {
        elasticsearch.close();
        endSharing();
        await broker.close();
        await Promise.all([client.close(), slow.close()]);
      },
    };
  },
});
