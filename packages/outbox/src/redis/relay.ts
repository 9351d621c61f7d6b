import { Redis } from "ioredis";
import { everyTask, RelayState, runSessions } from "../loop.ts";
import { LossDuty } from "../loss.ts";
import type { Relay, RelayStatus } from "../types.ts";
import { type EntryPosition, readCursor } from "./checkpoints.ts";
import { readEnd } from "./end.ts";
import { compareEntries, entryTime, FIRST_ENTRY, outboxKeys } from "./keys.ts";
import type { RedisRelayContext, RedisRelayOptions } from "./options.ts";
import { RedisSession } from "./session.ts";

export interface RedisRelayStatus extends RelayStatus {
  /** Entries that are not relayed; approximate while it is behind, exact when it is not. Null while Redis cannot be asked. */
  lagEntries: number | null;
}

/**
 * A relay that reads the outbox from a Redis stream and publishes it to JetStream. Run it in as many replicas as you like: a lease lets one of
 * them work. See README for what survives what.
 */
export function createRedisRelay(options: RedisRelayOptions): Relay<RedisRelayStatus> {
  const state = new RelayState(options);
  const keys = outboxKeys(options.prefix ?? "outbox");
  let session: RedisSession | undefined;
  let lag: { entries: number; seconds: number } | undefined;

  async function watch(redis: Redis): Promise<void> {
    try {
      const cursor: EntryPosition | undefined =
        (state.active ? session?.acknowledged : undefined) ?? (await readCursor(redis, keys));
      const { entry, added } = cursor ?? { entry: FIRST_ENTRY, added: 0 };
      const end = await readEnd(redis, keys);
      if (compareEntries(entry, end.last) >= 0) {
        lag = { entries: 0, seconds: 0 };
        return;
      }
      const [[oldest], [seconds]] = await Promise.all([
        redis.xrange(keys.events, `(${entry}`, "+", "COUNT", 1),
        redis.time(),
      ]);
      // Nothing left: what was not relayed has been erased.
      if (!oldest) lag = { entries: 0, seconds: 0 };
      else {
        const entries = Math.max(1, Math.min(end.added - added, end.length));
        lag = { entries, seconds: Math.max(0, Number(seconds) - entryTime(oldest[0]) / 1000) };
      }
    } catch (error) {
      lag = undefined;
      throw error;
    }
  }

  return {
    async run(signal) {
      const redis = new Redis(options.url, {
        commandTimeout: 5_000,
        maxRetriesPerRequest: 1,
        retryStrategy: () => 200,
        connectTimeout: 3_000,
        ...options.redis,
      });
      redis.on("error", (error) => state.logger.debug({ err: error }, "Redis connection lost"));
      const context: RedisRelayContext = { options, state, redis, keys, duty: new LossDuty(state, signal) };
      const stop = everyTask(state, "lag", 1_000, () => watch(redis));
      try {
        await runSessions(state, signal, (inner) => {
          session = new RedisSession(context);
          return session.run(inner);
        });
      } finally {
        stop();
        redis.disconnect();
      }
    },
    status() {
      return {
        active: state.active,
        owed: state.owed,
        lagEntries: lag?.entries ?? null,
        lagSeconds: lag?.seconds ?? null,
        unacked: state.active ? (session?.unacked ?? 0) : 0,
        published: state.published,
        duplicates: state.duplicates,
        resent: state.resent,
        restarts: state.restarts,
        lastError: state.lastError,
      };
    },
  };
}
