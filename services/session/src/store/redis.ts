import { readdirSync, readFileSync } from "node:fs";
import { unsafe } from "@quartet/service";
import { Redis, ReplyError } from "ioredis";
import { redisTarget } from "./target.ts";

const folder = new URL("./lua/", import.meta.url);
/** The defects that are switched on, as the scripts read them. */
const defects = `local UNSAFE = { skip_version_check = ${unsafe.has("skip-version-check")}, forget_tombstone = ${unsafe.has("forget-tombstone")} }\n`;
const lib = defects + readFileSync(new URL("lib.lua", folder), "utf8");
const scripts = readdirSync(folder)
  .filter((file) => file.endsWith(".lua") && file !== "lib.lua")
  .map((file) => file.slice(0, -".lua".length));

/** Runs one of the scripts in `lua/` with its ARGV. */
export type Run = (script: string, ...argv: (string | number)[]) => Promise<unknown>;

export interface RedisStore {
  readonly redis: Redis;
  run: Run;
  /** Ends the connection; it does not come back. */
  close(): void;
}

const AGAIN_MS = 200;

/**
 * A connection that never queues: while Redis is away a command fails at once, and one that gets no answer fails at `timeoutMs`. It connects
 * again by itself, for ever.
 */
export function connectRedis(url: string, timeoutMs: number, onError: (error: Error) => void): RedisStore {
  const target = redisTarget(url);
  const redis = new Redis(target.url, {
    ...target.options,
    commandTimeout: timeoutMs,
    connectTimeout: 1000,
    // A host that vanished closes no connection, and TCP alone would hope for a quarter of an hour.
    socketTimeout: 2 * timeoutMs,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    retryStrategy: (attempt) => Math.min(50 * attempt, 500),
    keepAlive: 10_000,
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
  });
  redis.on("error", onError);
  // ioredis gives up for ever if Sentinels announce another primary in the moment in which it asks them where the primary is.
  let closed = false;
  redis.on("end", () => {
    if (!closed) setTimeout(() => void (closed || redis.connect().catch(() => {})), AGAIN_MS);
  });
  for (const name of scripts) {
    const body = readFileSync(new URL(`${name}.lua`, folder), "utf8");
    redis.defineCommand(name, { numberOfKeys: 0, lua: `${lib}\n${body}` });
  }
  const commands = redis as unknown as Record<string, (...argv: (string | number)[]) => Promise<unknown>>;
  return {
    redis,
    run(script, ...argv) {
      return commands[script]!(...argv);
    },
    close() {
      closed = true;
      redis.disconnect();
    },
  };
}

/** Answers of a Redis that cannot do its work now, as opposed to a mistake of ours. */
const UNWELL = /^(OOM|LOADING|READONLY|MISCONF|MASTERDOWN|BUSY|NOREPLICAS|CLUSTERDOWN|TRYAGAIN)/;

/** Whether an error means that Redis is away or unwell. */
export function isRedisFault(error: unknown): boolean {
  return error instanceof ReplyError ? UNWELL.test((error as Error).message) : true;
}
