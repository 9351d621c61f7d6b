import { assertPublishable } from "../event.ts";
import type { OutboxEvent } from "../types.ts";
import { FIRST_ENTRY, outboxKeys } from "./keys.ts";

/**
 * Lua to put in front of your own script, so that a change and its events are one atomic step:
 *
 * - `outbox_append(prefix, id, stream, subject, msg_id, key, headers, payload)` appends one event and returns its entry id.
 *   `msg_id`, `key` and `headers` (a JSON object) may be the empty string.
 * - `outbox_append_all(prefix, argv, from)` appends the events that `outboxArguments()` put into `argv` from that index on, to its
 *   end, and returns how many.
 *
 * An entry has the fields id, stream, subject, msg_id, key, headers, payload. Its key's entries are indexed in `<prefix>:key:<key>`,
 * for erasure.
 */
export const OUTBOX_LUA = `
local function outbox_append(prefix, id, stream, subject, msg_id, key, headers, payload)
  local entry = redis.call('XADD', prefix .. ':events', '*', 'id', id, 'stream', stream, 'subject', subject,
    'msg_id', msg_id, 'key', key, 'headers', headers, 'payload', payload)
  if key ~= '' then
    redis.call('ZADD', prefix .. ':key:' .. key, string.match(entry, '^%d+'), entry)
  end
  return entry
end
local function outbox_append_all(prefix, argv, from)
  local count = 0
  for i = from, #argv - 6, 7 do
    outbox_append(prefix, argv[i], argv[i + 1], argv[i + 2], argv[i + 3], argv[i + 4], argv[i + 5], argv[i + 6])
    count = count + 1
  end
  return count
end
`;

/**
 * The arguments `outbox_append_all` reads: seven strings an event.
 * @throws InvalidEventError if JetStream would refuse one of them
 */
export function outboxArguments(events: OutboxEvent[]): string[] {
  return events.flatMap((event) => {
    assertPublishable(event);
    const headers = event.headers ? JSON.stringify(event.headers) : "";
    return [event.id, event.stream, event.subject, event.msgId ?? "", event.key, headers, event.payload];
  });
}

/** A Redis client, pipeline or MULTI of ioredis. */
export interface RedisCommands {
  eval(script: string, numberOfKeys: number, ...args: (string | number)[]): unknown;
}

const APPEND = `${OUTBOX_LUA}return outbox_append_all(ARGV[1], ARGV, 2)`;

/**
 * Appends events by a command of its own: inside a MULTI (`appendRedisOutbox(redis.multi().set(...), events)`) they are part of it. From Lua
 * use `OUTBOX_LUA`. Returns what the client's `eval` returns.
 * @throws InvalidEventError if JetStream would refuse one of them; nothing was written then
 */
export function appendRedisOutbox<C extends RedisCommands>(
  commands: C,
  events: OutboxEvent[],
  prefix = "outbox",
): ReturnType<C["eval"]> {
  return commands.eval(APPEND, 0, prefix, ...outboxArguments(events)) as ReturnType<C["eval"]>;
}

const ERASE = `
local function parts(entry)
  local ms, n = string.match(entry, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(n)
end
local cursor_ms, cursor_n = parts(redis.call('HGET', KEYS[2], 'entry') or '${FIRST_ENTRY}')
local keep = {}
for i = 2, #ARGV do keep[ARGV[i]] = true end
local deleted, pending = 0, 0
for _, entry in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local ms, n = parts(entry)
  local found = redis.call('XRANGE', KEYS[1], entry, entry)[1]
  if not found then
    redis.call('ZREM', KEYS[3], entry)
  elseif ms > cursor_ms or (ms == cursor_ms and n > cursor_n) then
    pending = pending + 1
  elseif ARGV[1] == 'delete' and not keep[found[2][2]] then
    redis.call('XDEL', KEYS[1], entry)
    redis.call('ZREM', KEYS[3], entry)
    deleted = deleted + 1
  end
end
return {deleted, pending}`;

/**
 * Erases the retained entries of a key that are relayed, except the events named in `keep`. `pending` counts those that are not relayed
 * yet: they stay, ask again until there are none.
 */
export async function deleteRedisOutboxEntries(
  redis: RedisCommands,
  key: string,
  options: { prefix?: string; keep?: string[] } = {},
): Promise<{ deleted: number; pending: number }> {
  const keys = outboxKeys(options.prefix ?? "outbox");
  const reply = redis.eval(ERASE, 3, keys.events, keys.cursor, keys.key(key), "delete", ...(options.keep ?? []));
  const [deleted, pending] = (await reply) as [number, number];
  return { deleted, pending };
}

/** How many entries of a key are not relayed yet. Changes nothing. */
export async function countRedisOutboxEntries(
  redis: RedisCommands,
  key: string,
  options: { prefix?: string } = {},
): Promise<number> {
  const keys = outboxKeys(options.prefix ?? "outbox");
  const [, pending] = (await redis.eval(ERASE, 3, keys.events, keys.cursor, keys.key(key), "count")) as [
    number,
    number,
  ];
  return pending;
}
