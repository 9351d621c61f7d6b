import { emit, type Outgoing } from "@quartet/contracts";

/** Prefix of the outbox's keys in Redis. */
export const OUTBOX = "outbox";

// Values no real event has, so that they can be found in the text of an event made from them.
const AT = new Date("2000-01-02T03:04:05.678Z");
const DURATION = 987654321.125;

/**
 * The scripts write their events themselves, because only they know what they found. Each gets a template: the outbox entry of an event the
 * contracts made, with `$name$` where the script fills in.
 */
function template(out: Outgoing): string {
  const fill = (text: string) =>
    text
      .replaceAll(AT.toISOString(), "$time$")
      .replaceAll(AT.toISOString().slice(0, 10), "$day$")
      .replaceAll(String(DURATION), "$duration$");
  const { event } = out;
  const fields = [
    "id",
    event.id,
    "stream",
    out.stream,
    "subject",
    out.subject,
    "msg_id",
    out.msgId ?? "",
    "key",
    "$user$",
  ];
  return JSON.stringify([OUTBOX, ...fields.map(fill), "headers", "", "payload", fill(JSON.stringify(event))]);
}

const o = { time: AT };
export const templates = {
  started: template(emit.sessionStarted("$user$", "$session$", o)),
  active: template(emit.sessionActive("$user$", "$session$", o)),
  ended: template(emit.sessionEnded("$user$", "$session$", "$reason$" as "logout", DURATION, o)),
} as const;
