import { emit, type Outgoing } from "@quartet/contracts";
import { currentTraceparent } from "@quartet/service";

/** Prefix of the outbox's keys in Redis. */
export const OUTBOX = "outbox";

// Values no real event has, so that they can be found in the text of an event made from them.
const AT = new Date("2000-01-02T03:04:05.678Z");
const DURATION = 987654321.125;
const TRACE = "$trace$";

/**
 * The scripts write their events themselves, because only they know what they found. Each gets a template: the outbox entry of an event the
 * contracts made, with `$name$` where the script fills in.
 */
function build(out: Outgoing): string {
  const fill = (text: string) =>
    text
      .replaceAll(AT.toISOString(), "$time$")
      .replaceAll(AT.toISOString().slice(0, 10), "$day$")
      .replaceAll(String(DURATION), "$duration$");
  const { event } = out;
  const headers = event.traceparent ? JSON.stringify({ traceparent: event.traceparent }) : "";
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
  return JSON.stringify([OUTBOX, ...fields.map(fill), "headers", headers, "payload", fill(JSON.stringify(event))]);
}

function all(o: { time: Date; traceparent?: string }) {
  return {
    started: build(emit.sessionStarted("$user$", "$session$", o)),
    active: build(emit.sessionActive("$user$", "$session$", o)),
    ended: build(emit.sessionEnded("$user$", "$session$", "$reason$" as "logout", DURATION, o)),
  };
}

const plain = all({ time: AT });
const traced = all({ time: AT, traceparent: TRACE });

/** The template of an event, which continues the trace of what runs now, if there is one. */
export function template(name: keyof typeof plain): string {
  const traceparent = currentTraceparent();
  return traceparent ? traced[name].replaceAll(TRACE, traceparent) : plain[name];
}
