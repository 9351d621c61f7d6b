import type { Redis } from "ioredis";
import { type Checkpoint, type History, thin } from "../verify.ts";
import { FIRST_ENTRY } from "./keys.ts";
import { GUARD, type Lease, type OutboxKeys } from "./lease.ts";

/** Where a checkpoint stands in the outbox: every entry up to `entry` was acknowledged; `added` entries had ever been added by then. */
export interface EntryPosition {
  entry: string;
  added: number;
}

export type EntryCheckpoint = Checkpoint<EntryPosition>;

interface Stored {
  at: string;
  incarnation: string;
  sequence: number;
  eventId: string | null;
  digest: string | null;
  entry: string;
  added: number;
  refuted?: true;
}

async function readStored(redis: Redis, keys: OutboxKeys, stream: string): Promise<Stored[]> {
  const texts = await redis.lrange(keys.checkpoints(stream), 0, -1);
  return texts.map((text) => JSON.parse(text) as Stored);
}

/** The checkpoints of a stream that may still hold. */
export async function readEntryCheckpoints(
  redis: Redis,
  keys: OutboxKeys,
  stream: string,
): Promise<History<EntryPosition>> {
  const stored = await readStored(redis, keys, stream);
  const checkpoints = stored
    .filter((one) => !one.refuted)
    .map(({ at, entry, added, incarnation, sequence, eventId, digest }) => ({
      at: new Date(at),
      incarnation,
      sequence,
      eventId,
      digest,
      position: { entry, added },
    }));
  return { checkpoints, known: stored.length > 0, unfinished: stored[0]?.refuted ?? false };
}

const REPLACE = `${GUARD}
redis.call('DEL', KEYS[2])
for i = 2, #ARGV, 1000 do redis.call('RPUSH', KEYS[2], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
return 0`;

/** Marks the checkpoints of a stream that are newer than `holding` (all, if none holds) as false. Before anything is sent again. */
export async function refuteEntryCheckpoints(
  redis: Redis,
  keys: OutboxKeys,
  lease: Lease,
  stream: string,
  holding: EntryCheckpoint | undefined,
): Promise<void> {
  const stored = await readStored(redis, keys, stream);
  // By place, not by time: the clocks of two replicas may differ.
  const same = (one: Stored) => one.at === holding?.at.toISOString() && one.sequence === holding.sequence;
  const until = stored.findIndex((one) => !one.refuted && same(one));
  const newer = until === -1 ? stored.length : until;
  const marked = stored.map((one, i) => (i < newer ? { ...one, refuted: true as const } : one));
  await lease.run(
    REPLACE,
    [keys.checkpoints(stream)],
    marked.map((one) => JSON.stringify(one)),
  );
}

/** Thins the history and forgets what is older than `keepMs`, but for the newest. */
export async function thinEntryCheckpoints(
  redis: Redis,
  keys: OutboxKeys,
  lease: Lease,
  stream: string,
  keepMs: number,
): Promise<void> {
  const now = new Date();
  const history = (await readStored(redis, keys, stream)).map((one) => ({ one, at: new Date(one.at) }));
  const kept = thin(history, now).filter(({ at }, i) => i === 0 || now.getTime() - at.getTime() < keepMs);
  if (kept.length === history.length) return;
  await lease.run(
    REPLACE,
    [keys.checkpoints(stream)],
    kept.map(({ one }) => JSON.stringify(one)),
  );
}

/** Cursor and checkpoints move in one step, so the newest checkpoint and the cursor always say the same. */
const ADVANCE = `${GUARD}
redis.call('HSET', KEYS[2], 'entry', ARGV[2], 'added', ARGV[3])
for i = 4, #ARGV do redis.call('LPUSH', KEYS[i - 1], ARGV[i]) end
return 0`;

export interface EntryStreamPosition {
  stream: string;
  incarnation: string;
  sequence: number;
  eventId: string | null;
  digest: string | null;
}

export async function advance(
  keys: OutboxKeys,
  lease: Lease,
  position: EntryPosition,
  streams: EntryStreamPosition[],
): Promise<void> {
  const at = new Date().toISOString();
  const records = streams.map(({ incarnation, sequence, eventId, digest }): string => {
    const record: Stored = { at, incarnation, sequence, eventId, digest, ...position };
    return JSON.stringify(record);
  });
  const lists = streams.map(({ stream }) => keys.checkpoints(stream));
  await lease.run(ADVANCE, [keys.cursor, ...lists], [position.entry, position.added, ...records]);
}

/** The cursor, or undefined if it was never written or has been deleted. */
export async function readCursor(redis: Redis, keys: OutboxKeys): Promise<EntryPosition | undefined> {
  const [entry, added] = await redis.hmget(keys.cursor, "entry", "added");
  return entry ? { entry, added: Number(added ?? 0) } : undefined;
}

const TRIM = `${GUARD}
local cursor = redis.call('HGET', KEYS[3], 'entry')
if not cursor then return 0 end
local oldest, excess = tonumber(ARGV[2]), redis.call('XLEN', KEYS[2]) - tonumber(ARGV[3])
local last, removed = false, 0
for i, item in ipairs(redis.call('XRANGE', KEYS[2], '-', cursor, 'COUNT', 500)) do
  if tonumber(string.match(item[1], '^%d+')) >= oldest and i > excess then break end
  local key = ''
  for f = 1, #item[2], 2 do
    if item[2][f] == 'key' then key = item[2][f + 1] end
  end
  if key ~= '' then redis.call('ZREM', ARGV[4] .. ':key:' .. key, item[1]) end
  redis.call('XDEL', KEYS[2], item[1])
  last = item[1]
  removed = removed + 1
end
if last then redis.call('SET', KEYS[4], last) end
return removed`;

/** Removes relayed entries that are older than `oldestMs` (since the epoch), or more than `maxEntries`. Returns how many. */
export async function trim(
  keys: OutboxKeys,
  lease: Lease,
  options: { prefix: string; oldestMs: number; maxEntries: number },
): Promise<number> {
  const args = [options.oldestMs, options.maxEntries, options.prefix];
  return (await lease.run(TRIM, [keys.events, keys.cursor, keys.trimmed], args)) as number;
}

/** The last entry that retention has removed. */
export async function readTrimmed(redis: Redis, keys: OutboxKeys): Promise<string> {
  return (await redis.get(keys.trimmed)) ?? FIRST_ENTRY;
}
