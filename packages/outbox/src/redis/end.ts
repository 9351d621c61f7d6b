import type { Redis } from "ioredis";
import { FIRST_ENTRY } from "./keys.ts";
import type { OutboxKeys } from "./lease.ts";

export interface StreamEnd {
  last: string;
  added: number;
  length: number;
}

/** Where the stream of events ends. A stream that does not exist yet ends where it starts. */
export async function readEnd(redis: Redis, keys: OutboxKeys): Promise<StreamEnd> {
  let reply: unknown[];
  try {
    reply = (await redis.call("XINFO", "STREAM", keys.events)) as unknown[];
  } catch (error) {
    if (!/no such key/i.test((error as Error).message)) throw error;
    return { last: FIRST_ENTRY, added: 0, length: 0 };
  }
  const field = (name: string) => reply[reply.indexOf(name) + 1];
  return {
    last: String(field("last-generated-id")),
    added: Number(field("entries-added")),
    length: Number(field("length")),
  };
}
