import { decodeEvent, type FactEvent, type QuartetEvent } from "@quartet/contracts";
import { PoisonMessage, type RawMessage } from "@quartet/projection";
import type { Fact } from "../store/facts.ts";

const EARLIEST = 0;
const LATEST = Date.UTC(2200, 0, 1);

/** A message of FACTS as the event it is. Throws if it can never be stored. */
export function decodeFact(message: Pick<RawMessage, "data" | "subject">): QuartetEvent {
  const event = decodeEvent(message.data);
  if (event.type === "quartet.heartbeat.v1") return event;
  if (event.type === "quartet.user.state.v1" || event.type === "quartet.user.tombstone.v1") {
    throw new PoisonMessage(`${event.type} does not belong on FACTS`);
  }
  const at = Date.parse(event.time);
  if (!(at >= EARLIEST && at < LATEST)) throw new PoisonMessage(`the time ${event.time} cannot be stored`);
  const named = message.subject.split(".").at(-1);
  if ((event.data.userId ?? "-") !== named) throw new PoisonMessage("subject and person differ");
  return event;
}

/** The row of an event. */
export function toFact(event: FactEvent, accepted: { time: Date; seq: number }): Fact {
  const common = {
    id: event.id,
    occurredAt: Date.parse(event.time),
    acceptedAt: BigInt(accepted.time.getTime()) * 1_000_000n,
    sequence: accepted.seq,
  };
  switch (event.type) {
    case "quartet.user.created.v1":
    case "quartet.user.updated.v1":
    case "quartet.user.erased.v1":
      return { ...common, kind: "user", name: event.type.split(".")[2] as string, userId: event.data.userId };
    case "quartet.session.started.v1":
    case "quartet.session.active.v1":
      return { ...common, kind: "session", name: event.type.split(".")[2] as string, userId: event.data.userId };
    case "quartet.session.ended.v1": {
      const { userId, reason, durationSeconds } = event.data;
      return { ...common, kind: "session", name: "ended", userId, reason, durationSeconds };
    }
    case "quartet.track.v1": {
      const { name, userId, properties } = event.data;
      return { ...common, kind: "track", name, userId, properties };
    }
  }
}
