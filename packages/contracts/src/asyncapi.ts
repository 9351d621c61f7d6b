import { z } from "zod";
import { type EventType, eventSchemas } from "./events.ts";
import { CONSUMERS, STREAMS } from "./streams.ts";

/** Which channel each event type travels on. */
const channelOf: Record<EventType, { address: string; stream: string; action: string }[]> = {
  "quartet.user.state.v1": [{ address: "users.{userId}", stream: "USERS", action: "user" }],
  "quartet.user.tombstone.v1": [{ address: "users.{userId}", stream: "USERS", action: "user" }],
  "quartet.user.created.v1": [{ address: "facts.user.created.{userId}", stream: "FACTS", action: "user" }],
  "quartet.user.updated.v1": [{ address: "facts.user.updated.{userId}", stream: "FACTS", action: "user" }],
  "quartet.user.erased.v1": [{ address: "facts.user.erased.{userId}", stream: "FACTS", action: "user" }],
  "quartet.session.started.v1": [{ address: "facts.session.started.{userId}", stream: "FACTS", action: "session" }],
  "quartet.session.active.v1": [{ address: "facts.session.active.{userId}", stream: "FACTS", action: "session" }],
  "quartet.session.ended.v1": [{ address: "facts.session.ended.{userId}", stream: "FACTS", action: "session" }],
  "quartet.track.v1": [{ address: "facts.track.{name}.{userId}", stream: "FACTS", action: "analytics" }],
  "quartet.heartbeat.v1": [
    { address: "heartbeat.users.{source}", stream: "USERS", action: "user" },
    { address: "heartbeat.facts.{source}", stream: "FACTS", action: "user and session" },
  ],
};

/** The AsyncAPI 3.0 document of the event streams. */
export function asyncApi(): Record<string, unknown> {
  const messages: Record<string, unknown> = {};
  const channels: Record<string, { address: string; messages: Record<string, unknown>; [k: string]: unknown }> = {};
  const operations: Record<string, unknown> = {};
  for (const type of Object.keys(eventSchemas) as EventType[]) {
    const { $schema: _, ...payload } = z.toJSONSchema(eventSchemas[type]) as Record<string, unknown>;
    messages[type] = { name: type, contentType: "application/cloudevents+json", payload };
    for (const { address, stream, action } of channelOf[type]) {
      const key = address.replace(/\.\{\w+\}/g, "").replaceAll(".", "-");
      channels[key] ??= {
        address,
        description: `Stream ${stream}. Published by ${action}.`,
        parameters: Object.fromEntries([...address.matchAll(/\{(\w+)\}/g)].map((m) => [m[1], {}])),
        messages: {},
      };
      channels[key].messages[type] = { $ref: `#/components/messages/${type}` };
      operations[`send-${key}`] = { action: "send", channel: { $ref: `#/channels/${key}` } };
      for (const [consumer, { stream: from }] of Object.entries(CONSUMERS)) {
        if (from === stream)
          operations[`${consumer}-receives-${key}`] = { action: "receive", channel: { $ref: `#/channels/${key}` } };
      }
    }
  }
  return {
    asyncapi: "3.0.0",
    info: {
      title: "Quartet events",
      version: "1.0.0",
      description: `CloudEvents 1.0 in structured JSON on NATS JetStream. Streams: ${Object.values(STREAMS)
        .map((s) => `${s.name} (${s.description})`)
        .join("; ")}.`,
      license: { name: "Apache-2.0" },
    },
    defaultContentType: "application/cloudevents+json",
    channels,
    operations,
    components: { messages },
  };
}
