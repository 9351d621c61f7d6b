import { subjects } from "@quartet/contracts";
import { z } from "zod";
import { type Activity, activity, lastTenth, MARKS, type Sighting } from "./activity.ts";

/** Messages that may get lost, between whoever is connected: the `Broker` of the projection package is one. */
export interface Wire {
  /** Sends it if there is a connection now. Never throws. */
  say(subject: string, text: string): void;
  /** Calls `listener` with what is said from now on, whatever becomes of the connection. */
  hear(subject: string, listener: (text: string) => void): void;
}

const SAY_EVERY_MS = 200;
/** Far more than the tenths between two messages can have. */
const MOST = 500;

/** Only what a sighting has gets in: whatever else a message says is left out. */
const message = z
  .array(
    z.object({
      hop: z.string().min(1).max(100),
      kind: z.string().min(1).max(100),
      at: z.number(),
      n: z.int().min(1),
      some: z
        .array(z.tuple([z.string().regex(/^[0-9a-f]{8}$/), z.number(), z.number().nullable()]))
        .max(MARKS)
        .optional(),
    }),
  )
  .max(MOST);

/**
 * Where each role is a process of its own, relay and projector see the flow and only the process that serves the API is asked what was seen. So the
 * ones tell and the other hears, on core NATS: this must cost next to nothing, may miss some, and can fail nobody. A process with all roles
 * does neither. Returns what ends the telling.
 */
export function shareActivity(service: string, role: string, wire: Wire, seen: Activity = activity): () => void {
  const subject = subjects.activity(service);
  if (role === "all") return () => {};
  if (role === "api") {
    wire.hear(subject, (text) => seen.hear(read(text)));
    return () => {};
  }
  let told = lastTenth(Date.now());
  const timer = setInterval(() => {
    const now = Date.now();
    const news = seen.since(told, now);
    told = lastTenth(now);
    if (news.length > 0) wire.say(subject, JSON.stringify(news.slice(-MOST)));
  }, SAY_EVERY_MS);
  timer.unref();
  return () => clearInterval(timer);
}

/** Nothing, if it is not what such a message looks like. */
function read(text: string): Sighting[] {
  try {
    return message.safeParse(JSON.parse(text)).data ?? [];
  } catch {
    return [];
  }
}
