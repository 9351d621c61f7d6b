import { PoisonMessage } from "./errors.ts";

interface LooksLikeHeartbeat {
  time?: unknown;
  data?: { at?: unknown };
}

/** Source from the last token of the subject, time from `data.at`, else `time`, of the event. Throws PoisonMessage. */
export function readHeartbeat(event: unknown, subject: string): { source: string; at: Date } {
  const { time, data } = (event ?? {}) as LooksLikeHeartbeat;
  const at = new Date((data?.at ?? time) as string);
  if (Number.isNaN(at.getTime())) throw new PoisonMessage("heartbeat without a time");
  return { source: subject.slice(subject.lastIndexOf(".") + 1), at };
}
