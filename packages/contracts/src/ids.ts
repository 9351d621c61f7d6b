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
  /** A tracked event: `id` is scoped to the caller (`user id` or `operator`). */
  track: (caller: string, id: string) => `t:${hash(`${caller}\n${id}`)}`,
  /**
   * A tracked event of nobody in particular: all of them share one scope, so the id names it only together with what it says. The same again is the same
   * event; a stranger with this id and another content has another one. Times are compared as instants, properties whatever their order.
   */
  anonymousTrack: (
    id: string,
    says: { name: string; occurredAt?: Date | undefined; properties?: object | undefined },
  ) => {
    const properties = Object.entries(says.properties ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
    // Neither a line break nor a user id is in front, so it meets no id of a caller who is known.
    return `t:${hash(JSON.stringify([id, says.name, says.occurredAt?.toISOString() ?? null, properties]))}`;
  },
} as const;

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 32);
}
