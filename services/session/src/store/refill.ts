import { randomUUID } from "node:crypto";
import type { UserEvent } from "@quartet/contracts";
import { argumentsOf, scan } from "./profiles.ts";
import type { RedisStore } from "./redis.ts";

const CHUNK = 500;

export interface RefillState {
  id: string | undefined;
  begun: boolean;
  tidying: boolean;
  startedAt: string | null;
  finishedAt: string | null;
}

/**
 * Filling the profile copies anew: `refill:<user>` beside `profile:<user>`, then user by user one key renamed to the other. Whoever takes over a state
 * meanwhile (an event, a log-in) takes it over in both places, in the same script. Sessions are Session's own and stay.
 */
export function createRefill({ redis, run }: RedisStore) {
  const state = async (): Promise<RefillState> => {
    const h = await redis.hgetall("rebuild");
    return {
      id: h.filling,
      begun: h.begun === "1",
      tidying: h.tidying === "1",
      startedAt: h.startedAt ?? null,
      finishedAt: h.finishedAt ?? null,
    };
  };
  return {
    state,

    /** False if one is under way. */
    async start(): Promise<boolean> {
      return (await run("refill_start", randomUUID())) === 1;
    },

    async begun(id: string): Promise<void> {
      if ((await state()).id === id) await redis.hset("rebuild", "begun", "1");
    },

    async apply(id: string, events: UserEvent[]): Promise<void> {
      for (let from = 0; from < events.length; from += CHUNK) {
        await run("refill", id, ...events.slice(from, from + CHUNK).flatMap(argumentsOf));
      }
    },

    /** Puts the new copies in the stead of the old ones. Can be begun again at any point. */
    async take(id: string): Promise<void> {
      for (const pattern of ["refill:*", "profile:*"]) {
        for await (const ids of scan(redis, pattern)) {
          for (let from = 0; from < ids.length; from += CHUNK) {
            await run("refill_take", id, ...ids.slice(from, from + CHUNK));
          }
        }
      }
      for (let bucket = 0; bucket < 256; bucket++) {
        const ids = await redis.smembers(`profiles:${bucket.toString(16).padStart(2, "0")}`);
        for (let from = 0; from < ids.length; from += CHUNK) await run("reindex", ...ids.slice(from, from + CHUNK));
      }
      await run("refill_end", id);
    },

    /** Removes what was taken over in both places after its key had been renamed. */
    async tidyUp(): Promise<void> {
      if (!(await state()).tidying) return;
      for await (const ids of scan(redis, "refill:*")) await redis.unlink(...ids.map((id) => `refill:${id}`));
      await redis.hdel("rebuild", "tidying");
    },
  };
}
export type Refill = ReturnType<typeof createRefill>;
