import {
  BucketDigest,
  type ConsistencyToken,
  type Source,
  sessionProfileDigest,
  type UserEvent,
} from "@quartet/contracts";
import type { RedisStore } from "./redis.ts";
import { template } from "./templates.ts";

/** How many users one script call applies: Redis does nothing else meanwhile. */
const CHUNK = 500;

function argumentsOf(event: UserEvent): (string | number)[] {
  const version = event.version as number;
  if (event.type === "quartet.user.tombstone.v1")
    return [event.data.id, version, event.data.deletedAt, "", "", "", "", ""];
  const { id, revision, handle, displayName, credentialEpoch, keptSessionId } = event.data;
  return [id, version, "", revision, handle, displayName, credentialEpoch, keptSessionId ?? ""];
}

/** The copies of the users' profiles, and what follows from a newer one for their sessions. */
export function createProfiles({ redis, run }: RedisStore) {
  return {
    /** Takes over states and tombstones with every consequence. What is not newer than what is held changes nothing. */
    async apply(events: UserEvent[]): Promise<void> {
      for (let from = 0; from < events.length; from += CHUNK) {
        await run("apply", template("ended"), ...events.slice(from, from + CHUNK).flatMap(argumentsOf));
      }
    },

    async moveWatermark(source: Source, at: Date): Promise<void> {
      await run("watermark", source, at.toISOString());
    },

    async asOf(): Promise<string | undefined> {
      return (await redis.get("watermark:user")) ?? undefined;
    },

    /** Whether the copies show what the token asks for. Facts and positions are not this service's to show. */
    async sees(token: ConsistencyToken): Promise<boolean> {
      if (token.a?.user) {
        const held = await redis.get("watermark:user");
        if (!held || Date.parse(held) < Date.parse(token.a.user)) return false;
      }
      for (const [id, version] of token.u ?? []) {
        if (Number((await redis.hget(`profile:${id}`, "version")) ?? -1) < version) return false;
      }
      return true;
    },

    /** How an erasure stands: the sessions left, or undefined if the tombstone has not arrived. */
    async erasure(userId: string, version: number): Promise<number | undefined> {
      const left = Number(await run("erasure", userId, version));
      return left < 0 ? undefined : left;
    },

    async counts(): Promise<{ sessions: number; profiles: number }> {
      const [sessions, profiles] = (await run("counts")) as [number, number];
      return { sessions, profiles };
    },

    /** What this store holds of the users of one audit bucket. */
    async bucket(bucket: number): Promise<{ id: string; digest: string; version: number }[]> {
      const ids = await redis.smembers(`profiles:${bucket.toString(16).padStart(2, "0")}`);
      const users: { id: string; digest: string; version: number }[] = [];
      for (let from = 0; from < ids.length; from += CHUNK) {
        const chunk = ids.slice(from, from + CHUNK);
        const pipeline = redis.pipeline();
        for (const id of chunk) pipeline.hmget(`profile:${id}`, "version", "revision", "handle", "displayName");
        const answers = (await pipeline.exec()) ?? [];
        for (const [i, [error, fields]] of answers.entries()) {
          if (error) throw error;
          const [version, revision, handle, displayName] = fields as (string | null)[];
          if (!version || !revision) continue; // erased since the set was read
          const id = chunk[i] as string;
          const profile = { id, handle: handle ?? "", displayName: displayName ?? "", revision: Number(revision) };
          users.push({ id, digest: sessionProfileDigest(profile), version: Number(version) });
        }
      }
      return users;
    },

    /** The digest of every bucket, computed by walking what is held. */
    async digests(): Promise<{ count: number; digest: string }[]> {
      const all: { count: number; digest: string }[] = [];
      for (let bucket = 0; bucket < 256; bucket++) {
        const sum = new BucketDigest();
        for (const { id, digest } of await this.bucket(bucket)) sum.add(id, digest);
        all.push(sum.value());
      }
      return all;
    },

    /** The workers leave their figures here for the API, which may be another process. */
    async report(worker: "projector" | "relay", figures: object): Promise<void> {
      await redis.set(`status:${worker}`, JSON.stringify(figures), "EX", 15);
    },

    async reported(worker: "projector" | "relay"): Promise<Record<string, unknown> | undefined> {
      const text = await redis.get(`status:${worker}`);
      return text ? (JSON.parse(text) as Record<string, unknown>) : undefined;
    },
  };
}
export type Profiles = ReturnType<typeof createProfiles>;
