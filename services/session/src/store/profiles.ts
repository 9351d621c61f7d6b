import {
  auditBucket,
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

/** A user event as `apply.lua` and `refill.lua` read it. */
export function argumentsOf(event: UserEvent): (string | number)[] {
  const version = event.version as number;
  if (event.type === "quartet.user.tombstone.v1")
    return [event.data.id, version, event.data.deletedAt, "", "", "", "", ""];
  const { id, revision, handle, displayName, credentialEpoch, keptSessionId } = event.data;
  return [id, version, "", revision, handle, displayName, credentialEpoch, keptSessionId ?? ""];
}

/** A copy as the audit compares it. */
export interface HeldProfile {
  id: string;
  digest: string;
  version: number;
}

function chunks<T>(all: T[]): T[][] {
  return Array.from({ length: Math.ceil(all.length / CHUNK) }, (_, i) => all.slice(i * CHUNK, (i + 1) * CHUNK));
}

const isUuid = (id: string) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id);

/** The ids behind the keys of a pattern, in pieces; one that is there all the time comes at least once. */
export async function* scan(redis: RedisStore["redis"], pattern: string): AsyncGenerator<string[]> {
  const prefix = pattern.indexOf(":") + 1;
  for (let cursor = "0"; ; ) {
    const [next, keys] = await redis.scan(cursor, "MATCH", pattern, "COUNT", 1000);
    if (keys.length > 0) yield keys.map((key) => key.slice(prefix));
    if (next === "0") return;
    cursor = next;
  }
}

/** What is held of these users; nothing of one who is erased or unknown. A number that is none counts as 0: it is a difference. */
async function held(redis: RedisStore["redis"], ids: string[]): Promise<HeldProfile[]> {
  const pipeline = redis.pipeline();
  for (const id of ids) {
    pipeline.hmget(`profile:${id}`, "version", "revision", "handle", "displayName", "epoch", "erasedAt");
  }
  const number = (text: string | null | undefined) => (Number.isSafeInteger(Number(text)) ? Number(text) : 0);
  const users: HeldProfile[] = [];
  for (const [i, [error, fields]] of ((await pipeline.exec()) ?? []).entries()) {
    if (error) throw error;
    const [version, revision, handle, displayName, epoch, erasedAt] = fields as (string | null)[];
    if ((fields as (string | null)[]).every((field) => field === null) || erasedAt) continue;
    const id = ids[i] as string;
    const profile = { id, handle: handle ?? "", displayName: displayName ?? "", revision: number(revision) };
    const digest = sessionProfileDigest({ ...profile, credentialEpoch: number(epoch) });
    users.push({ id, digest, version: Math.max(0, number(version)) });
  }
  return users;
}

/** The copies of the users' profiles, and what follows from a newer one for their sessions. */
export function createProfiles({ redis, run }: RedisStore) {
  /** The ids in the set of a bucket that belong there, in pieces. */
  async function* idsOf(bucket: number): AsyncGenerator<string[]> {
    const ids = await redis.smembers(`profiles:${bucket.toString(16).padStart(2, "0")}`);
    yield* chunks(ids.filter((id) => isUuid(id) && auditBucket(id) === bucket));
  }

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

    /** Whether the copies show what each of the tokens asks for. Facts and positions are not this service's to show. */
    async see(tokens: ConsistencyToken[]): Promise<boolean[]> {
      const pipeline = redis.pipeline().get("watermark:user");
      for (const token of tokens) for (const [id] of token.u ?? []) pipeline.hget(`profile:${id}`, "version");
      const answers = ((await pipeline.exec()) ?? []).map(([error, value]) => {
        if (error) throw error;
        return value as string | null;
      });
      const [watermark] = answers.splice(0, 1);
      return tokens.map((token) => {
        const versions = answers.splice(0, token.u?.length ?? 0);
        const asOf = !token.a?.user || (!!watermark && Date.parse(watermark) >= Date.parse(token.a.user));
        return asOf && (token.u ?? []).every(([, version], i) => Number(versions[i] ?? -1) >= version);
      });
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

    /** What this store holds of the users of one audit bucket, as `digests` has found them. */
    async bucket(bucket: number, signal?: AbortSignal): Promise<HeldProfile[]> {
      const users: HeldProfile[] = [];
      for await (const ids of idsOf(bucket)) {
        signal?.throwIfAborted();
        users.push(...(await held(redis, ids)));
        await this.reindex(ids);
      }
      return users;
    },

    /**
     * The digest of every bucket. First the copies themselves are walked, for the sets of the buckets to say what they say; then one set after another
     * is read. So nothing is held of all users at a time, and a copy that the first walk meets twice counts once.
     */
    async digests(signal?: AbortSignal): Promise<{ count: number; digest: string }[]> {
      for await (const ids of scan(redis, "profile:*")) {
        signal?.throwIfAborted();
        // No event can have written these, so none could take them away.
        const strays = ids.filter((id) => !isUuid(id));
        for (const chunk of chunks(strays)) await redis.unlink(...chunk.map((id) => `profile:${id}`));
        await this.reindex(ids.filter(isUuid));
      }
      const digests: { count: number; digest: string }[] = [];
      for (let bucket = 0; bucket < 256; bucket++) {
        signal?.throwIfAborted();
        const sum = new BucketDigest();
        for await (const ids of idsOf(bucket)) {
          for (const { id, digest, version } of await held(redis, ids)) sum.add(id, digest, version);
        }
        digests.push(sum.value());
      }
      return digests;
    },

    /** Makes the sets of the audit buckets say what the copies say. */
    async reindex(ids: string[]): Promise<void> {
      for (const chunk of chunks(ids)) await run("reindex", ...chunk);
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
