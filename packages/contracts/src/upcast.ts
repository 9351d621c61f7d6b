import type { ZodError } from "zod";
import { type EventOf, type EventType, eventSchemas, type QuartetEvent, type UserEvent } from "./events.ts";
import { subjects } from "./streams.ts";

export type HeartbeatEvent = EventOf<"quartet.heartbeat.v1">;

/** Thrown by decodeEvent when bytes are not an event this version of Quartet understands: poison for a projector. */
export class UndecodableEvent extends Error {
  override name = "UndecodableEvent";
}

type Raw = Record<string, unknown> & { type: string };

/**
 * Upcasters bring an event of a past type version to the next one; they chain. Keyed by the old type. Fixtures of every past
 * version are kept in test/fixtures and replayed by the tests.
 */
export const upcasters: Record<string, (event: Raw) => Raw> = {};

/** A later type version with a known family is read as the newest version known here: fields are only ever added, or renamed
 * with the old name kept for one release (expand, then contract). */
const FAMILY = /^(quartet\.[a-z.]+)\.v(\d+)$/;

function newestKnown(type: string): EventType | undefined {
  const match = FAMILY.exec(type);
  if (!match) return undefined;
  for (let v = Number(match[2]); v >= 1; v--) {
    const candidate = `${match[1]}.v${v}`;
    if (Object.hasOwn(eventSchemas, candidate)) return candidate as EventType;
  }
  return undefined;
}

/** Parses, upcasts and validates one event. Unknown fields are dropped. Throws UndecodableEvent. */
export function decodeEvent(bytes: Uint8Array | string): QuartetEvent {
  let raw: Raw;
  try {
    const text = typeof bytes === "string" ? bytes : new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    raw = JSON.parse(text) as Raw;
  } catch (cause) {
    throw new UndecodableEvent("not valid JSON in UTF-8", { cause });
  }
  if (typeof raw !== "object" || raw === null || typeof raw.type !== "string") {
    throw new UndecodableEvent("not a CloudEvent: no type");
  }
  for (let hops = 0; Object.hasOwn(upcasters, raw.type); hops++) {
    if (hops > 20) throw new UndecodableEvent(`upcasters of ${raw.type} do not end`);
    raw = upcasters[raw.type]!(raw);
  }
  const known = newestKnown(raw.type);
  if (!known) throw new UndecodableEvent(`unknown event type ${raw.type.slice(0, 100)}`);
  const parsed = eventSchemas[known].safeParse(known === raw.type ? raw : { ...raw, type: known });
  if (!parsed.success)
    throw new UndecodableEvent(`${known}: ${issues(parsed.error as ZodError)}`, { cause: parsed.error });
  return parsed.data as QuartetEvent;
}

/** A message of USERS: a user event with its version under its own subject, or a heartbeat. Throws UndecodableEvent for anything else. */
export function decodeUserMessage(message: { data: Uint8Array | string; subject: string }): UserEvent | HeartbeatEvent {
  const event = decodeEvent(message.data);
  if (event.type === "quartet.heartbeat.v1") return event;
  if (event.type !== "quartet.user.state.v1" && event.type !== "quartet.user.tombstone.v1") {
    throw new UndecodableEvent(`${event.type} does not belong on USERS`);
  }
  if (event.version === undefined) throw new UndecodableEvent("no version");
  if (message.subject !== subjects.user(event.data.id)) throw new UndecodableEvent("subject and user differ");
  return event;
}

function issues(error: ZodError): string {
  return error.issues
    .map((i) => `${i.path.join(".")}: ${i.message}`)
    .join("; ")
    .slice(0, 500);
}
