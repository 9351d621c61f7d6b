import type { RedisOptions } from "ioredis";

/** What ioredis is given: the URL has account, database and TLS, the options say how the server is found. */
export interface RedisTarget {
  readonly url: string;
  readonly options: RedisOptions;
}

const SENTINEL = /^(rediss?)\+sentinel:\/\/(?:([^@/?]*)@)?([^/?]+)\/([^/?]+)(?:\/(\d+))?(?:\?(.*))?$/;
const ADDRESS = /^(\[[0-9a-fA-F:]+\]|[^:[\]]+)(?::(\d{1,5}))?$/;
const SENTINEL_PORT = 26_379;

function address(text: string): { host: string; port: number } {
  const [, host, port] = ADDRESS.exec(text) ?? [];
  if (!host) throw new Error(`not an address of a Sentinel: ${text}`);
  return { host: host.replace(/^\[|\]$/g, ""), port: Number(port ?? SENTINEL_PORT) };
}

/**
 * Reads REDIS_URL: `redis://`, `rediss://` (TLS), or the primary that Sentinels name, which is asked for anew at each connection:
 * `redis+sentinel://user:password@host:26379,host:26379/primary/0`. `rediss+sentinel://` is TLS to both; `?sentinelUsername=…&sentinelPassword=…`
 * where the Sentinels have an account of their own. Throws an Error without the password.
 */
export function redisTarget(text: string): RedisTarget {
  if (/^rediss?:\/\//.test(text)) return { url: text, options: {} };
  const [, scheme, account, addresses, name, database = "0", query] = SENTINEL.exec(text) ?? [];
  if (!addresses || !name)
    throw new Error("must be redis://…, rediss://…, or redis+sentinel://user:password@host:port,host:port/primary");
  const settings = new URLSearchParams(query);
  const tls = scheme === "rediss";
  return {
    // The name is never resolved: with `sentinels` ioredis asks them where the primary is.
    url: `${scheme}://${account === undefined ? "" : `${account}@`}${encodeURIComponent(name)}/${database}`,
    options: {
      sentinels: addresses.split(",").map(address),
      name: decodeURIComponent(name),
      sentinelUsername: settings.get("sentinelUsername") ?? undefined,
      sentinelPassword: settings.get("sentinelPassword") ?? undefined,
      sentinelRetryStrategy: (attempt) => Math.min(50 * attempt, 500),
      sentinelCommandTimeout: 1000,
      // Leaves a primary that was replaced while it lives: nobody would refuse its writes, and they would be lost.
      failoverDetector: true,
      ...(tls ? { enableTLSForSentinelMode: true, sentinelTLS: {} } : {}),
    },
  };
}
