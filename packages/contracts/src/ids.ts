import { createHash, randomBytes } from "node:crypto";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** True for a canonical lower-case UUID. */
export function isUuid(value: string): boolean {
  return UUID.test(value);
}

/** A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then randomness. Sorts by creation time. */
export function uuidv7(nowMs: number = Date.now()): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(nowMs, 0, 6);
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Ids of facts follow from what they say, so that a resend is the same fact and a token can name it. */
export const factId = {
  /** A change of a user (created, updated, erased): one fact a version. */
  user: (userId: string, version: number) => `u:${userId}:${version}`,
  sessionStarted: (sessionId: string) => `s:${sessionId}:started`,
  /** First use of a session on a UTC day (`YYYY-MM-DD`). */
  sessionActive: (sessionId: string, day: string) => `s:${sessionId}:active:${day}`,
  sessionEnded: (sessionId: string) => `s:${sessionId}:ended`,
  /** A tracked event: `id` is scoped to the caller (`user id`, `operator` or `anonymous`). */
  track: (caller: string, id: string) =>
    `t:${createHash("sha256").update(`${caller}\n${id}`).digest("hex").slice(0, 32)}`,
} as const;
