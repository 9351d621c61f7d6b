import { type ConnectionOptions, connect, type NatsConnection } from "nats";
import { backoff, pause } from "./backoff.ts";
import type { Logger, NatsSource } from "./types.ts";

const REQUEST_TIMEOUT_MS = 3_000;

/** nats.js takes user and password apart from the address, a URL (or several, separated by commas) carries them together. */
export function natsOptions(url: string): ConnectionOptions {
  const parts = url.split(",").map((part) => new URL(part.includes("://") ? part.trim() : `nats://${part.trim()}`));
  const first = parts[0]!;
  return {
    servers: parts.map((part) => part.host),
    ...(first.username ? { user: decodeURIComponent(first.username), pass: decodeURIComponent(first.password) } : {}),
    ...(first.protocol === "tls:" ? { tls: {} } : {}),
  };
}

/** Opens one connection that then reconnects for ever by itself. Rejects if the server cannot be reached now. */
function openConnection(source: NatsSource): Promise<NatsConnection> {
  if (typeof source === "function") return source();
  return connect({
    ...natsOptions(source.url),
    ...(source.name ? { name: source.name } : {}),
    ...(source.inboxPrefix ? { inboxPrefix: source.inboxPrefix } : {}),
    timeout: REQUEST_TIMEOUT_MS,
    reconnect: true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 200,
    reconnectJitter: 100,
    // A wrong password may be a rotation half done: keep trying, as for any other trouble.
    ignoreAuthErrorAbort: true,
    // A frozen server keeps its connections open. Two missed answers are 10 s.
    pingInterval: 5_000,
    maxPingOut: 2,
    ...source.options,
  });
}

/** Tries until it is connected or told to stop (then undefined). Says so once. */
export async function connectForEver(
  source: NatsSource,
  signal: AbortSignal,
  logger: Logger,
): Promise<NatsConnection | undefined> {
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      const connection = await openConnection(source);
      if (attempt > 0) logger.info({ attempts: attempt + 1 }, "connected to NATS");
      return connection;
    } catch (error) {
      if (attempt === 0) logger.warn({ error: String(error) }, "cannot connect to NATS; trying for ever");
      await pause(backoff(attempt, 100, 2_000), signal);
    }
  }
  return undefined;
}
