import { z } from "zod";
import { factId, uuidv7 } from "./ids.ts";
import { type Source, subjects } from "./streams.ts";

/**
 * Every event Quartet sends: CloudEvents 1.0, structured JSON, with the extensions `version`, `revision` and `traceparent`.
 * A field is only ever added (optional) within a version; anything else is a new type version and an upcaster (upcast.ts).
 */
const time = z.iso.datetime({ offset: true });
const id = z.string().min(1).max(200);
const userId = z.uuid();

/** Why a session ended. */
export const sessionEndReasons = ["logout", "revoked", "expired", "erased"] as const;
export type SessionEndReason = (typeof sessionEndReasons)[number];

/** A property of a tracked event. */
export const propertyValue = z.union([z.string().max(512), z.number(), z.boolean(), z.null()]);
export type PropertyValue = z.infer<typeof propertyValue>;

const data = {
  "quartet.user.state.v1": z.object({
    id: userId,
    handle: z.string(),
    displayName: z.string(),
    bio: z.string(),
    country: z.string().nullable(),
    tags: z.array(z.string()),
    revision: z.number().int().positive(),
    createdAt: time,
    updatedAt: time,
    /** Goes up with every changed password: sessions of an older epoch end, but for the kept one. */
    credentialEpoch: z.number().int().nonnegative(),
    keptSessionId: z.string().nullable(),
  }),
  "quartet.user.tombstone.v1": z.object({ id: userId, deletedAt: time }),
  "quartet.user.created.v1": z.object({ userId }),
  "quartet.user.updated.v1": z.object({ userId, fields: z.array(z.string()) }),
  "quartet.user.erased.v1": z.object({ userId }),
  "quartet.session.started.v1": z.object({ userId, sessionId: z.string() }),
  "quartet.session.active.v1": z.object({ userId, sessionId: z.string() }),
  "quartet.session.ended.v1": z.object({
    userId,
    sessionId: z.string(),
    reason: z.enum(sessionEndReasons),
    durationSeconds: z.number().nonnegative(),
  }),
  "quartet.track.v1": z.object({
    name: z.string(),
    userId: userId.nullable(),
    properties: z.record(z.string(), propertyValue),
  }),
  "quartet.heartbeat.v1": z.object({ source: z.enum(["user", "session"]), at: time }),
} as const;

export type EventType = keyof typeof data;
export type EventData<T extends EventType> = z.infer<(typeof data)[T]>;

function envelope<T extends EventType>(type: T) {
  return z.object({
    specversion: z.literal("1.0"),
    id,
    source: z.string().min(1),
    type: z.literal(type),
    subject: z.string().min(1),
    time,
    dataschema: z.string().optional(),
    datacontenttype: z.string().optional(),
    traceparent: z.string().optional(),
    version: z.number().int().nonnegative().optional(),
    revision: z.number().int().nonnegative().optional(),
    data: data[type],
  });
}

/** Schema of each event, by type. */
export const eventSchemas = Object.fromEntries(
  (Object.keys(data) as EventType[]).map((type) => [type, envelope(type)]),
) as unknown as { [T in EventType]: ReturnType<typeof envelope<T>> };

export interface EventOf<T extends EventType> {
  specversion: "1.0";
  id: string;
  source: string;
  type: T;
  subject: string;
  time: string;
  dataschema?: string | undefined;
  datacontenttype?: string | undefined;
  traceparent?: string | undefined;
  version?: number | undefined;
  revision?: number | undefined;
  data: EventData<T>;
}
export type QuartetEvent = { [T in EventType]: EventOf<T> }[EventType];
export type UserEvent = EventOf<"quartet.user.state.v1"> | EventOf<"quartet.user.tombstone.v1">;
export type FactEvent = {
  [T in Exclude<EventType, "quartet.user.state.v1" | "quartet.user.tombstone.v1" | "quartet.heartbeat.v1">]: EventOf<T>;
}[Exclude<EventType, "quartet.user.state.v1" | "quartet.user.tombstone.v1" | "quartet.heartbeat.v1">];

/** An event and where it goes: what an outbox row or a publish is made from. */
export interface Outgoing<E extends QuartetEvent = QuartetEvent> {
  stream: "USERS" | "FACTS";
  subject: string;
  /** Set on FACTS only: on USERS order is truth, and a duplicate window would break it. */
  msgId: string | null;
  /** Whose data it is, for erasure. Null for heartbeats and anonymous facts. */
  key: string | null;
  event: E;
}

interface EmitOptions {
  time: Date;
  traceparent?: string | undefined;
}

function make<T extends EventType>(
  type: T,
  source: string,
  id: string,
  subject: string,
  data: EventData<T>,
  extra: { time: Date; traceparent?: string | undefined; version?: number; revision?: number },
): EventOf<T> {
  return {
    specversion: "1.0",
    id,
    source: `/quartet/${source}`,
    type,
    subject,
    time: extra.time.toISOString(),
    dataschema: `https://quartet.invalid/schemas/${type}.json`,
    datacontenttype: "application/json",
    ...(extra.traceparent ? { traceparent: extra.traceparent } : {}),
    ...(extra.version === undefined ? {} : { version: extra.version }),
    ...(extra.revision === undefined ? {} : { revision: extra.revision }),
    data,
  };
}

/** Makers of every event with the stream and subject it belongs to. */
export const emit = {
  userState(data: EventData<"quartet.user.state.v1">, version: number, o: EmitOptions): Outgoing {
    return {
      stream: "USERS",
      subject: subjects.user(data.id),
      msgId: null,
      key: data.id,
      event: make("quartet.user.state.v1", "user", uuidv7(), data.id, data, {
        ...o,
        version,
        revision: data.revision,
      }),
    };
  },
  userTombstone(userId: string, version: number, o: EmitOptions): Outgoing {
    return {
      stream: "USERS",
      subject: subjects.user(userId),
      msgId: null,
      key: userId,
      event: make(
        "quartet.user.tombstone.v1",
        "user",
        uuidv7(),
        userId,
        { id: userId, deletedAt: o.time.toISOString() },
        {
          ...o,
          version,
        },
      ),
    };
  },
  userFact(
    name: "created" | "updated" | "erased",
    userId: string,
    version: number,
    o: EmitOptions & { fields?: string[]; revision?: number },
  ): Outgoing {
    const id = factId.user(userId, version);
    const extra = {
      time: o.time,
      traceparent: o.traceparent,
      version,
      ...(o.revision === undefined ? {} : { revision: o.revision }),
    };
    const event =
      name === "updated"
        ? make("quartet.user.updated.v1", "user", id, userId, { userId, fields: o.fields ?? [] }, extra)
        : make(`quartet.user.${name}.v1`, "user", id, userId, { userId }, extra);
    return { stream: "FACTS", subject: subjects.fact("user", name, userId), msgId: id, key: userId, event };
  },
  sessionStarted(userId: string, sessionId: string, o: EmitOptions): Outgoing {
    const id = factId.sessionStarted(sessionId);
    return {
      stream: "FACTS",
      subject: subjects.fact("session", "started", userId),
      msgId: id,
      key: userId,
      event: make("quartet.session.started.v1", "session", id, userId, { userId, sessionId }, o),
    };
  },
  sessionActive(userId: string, sessionId: string, o: EmitOptions): Outgoing {
    const id = factId.sessionActive(sessionId, o.time.toISOString().slice(0, 10));
    return {
      stream: "FACTS",
      subject: subjects.fact("session", "active", userId),
      msgId: id,
      key: userId,
      event: make("quartet.session.active.v1", "session", id, userId, { userId, sessionId }, o),
    };
  },
  sessionEnded(
    userId: string,
    sessionId: string,
    reason: SessionEndReason,
    durationSeconds: number,
    o: EmitOptions,
  ): Outgoing {
    const id = factId.sessionEnded(sessionId);
    return {
      stream: "FACTS",
      subject: subjects.fact("session", "ended", userId),
      msgId: id,
      key: userId,
      event: make("quartet.session.ended.v1", "session", id, userId, { userId, sessionId, reason, durationSeconds }, o),
    };
  },
  /** A tracked event; `time` is when it occurred. */
  track(
    id: string,
    fact: { name: string; userId: string | null; properties: Record<string, PropertyValue> },
    o: EmitOptions,
  ): Outgoing {
    return {
      stream: "FACTS",
      subject: subjects.fact("track", fact.name, fact.userId),
      msgId: id,
      key: fact.userId,
      event: make("quartet.track.v1", "analytics", id, fact.userId ?? "-", fact, o),
    };
  },
  heartbeat(stream: "USERS" | "FACTS", source: Source, at: Date): Outgoing {
    return {
      stream,
      subject: subjects.heartbeat(stream, source),
      msgId: null,
      key: null,
      event: make("quartet.heartbeat.v1", source, uuidv7(), source, { source, at: at.toISOString() }, { time: at }),
    };
  },
} as const;
