import { describe, expect, it } from "vitest";
import { fixtures } from "../src/fixtures.ts";
import { decodeEvent, decodeUserMessage, eventSchemas, UndecodableEvent } from "../src/index.ts";

const kept = fixtures();

describe("events of every past version", () => {
  it.each(Object.keys(eventSchemas))("%s, and all before it, are kept", (type) => {
    const [, family, newest] = /^(.*)\.v(\d+)$/.exec(type) as unknown as [string, string, string];
    for (let version = 1; version <= Number(newest); version++) {
      expect(kept.some((f) => f.family === family && f.version === `v${version}`)).toBe(true);
    }
  });

  it.each(kept.map((f, i) => [`${f.family} ${f.version} #${i}`, f] as const))("%s is understood today", (_name, f) => {
    expect(f.event.type).toBe(`${f.family}.${f.version}`);
    const event = f.subject.startsWith("users.")
      ? decodeUserMessage({ data: JSON.stringify(f.event), subject: f.subject })
      : decodeEvent(JSON.stringify(f.event));
    expect(event).toMatchObject({ id: f.event.id, time: f.event.time, subject: f.event.subject });
    expect(Object.hasOwn(eventSchemas, event.type)).toBe(true);
  });

  it("of a later version what is known is read, if the old names are still there", () => {
    const { subject, event } = kept.find((f) => f.family === "quartet.user.state") as (typeof kept)[0];
    const { displayName, ...rest } = event.data as Record<string, unknown>;
    const later = { ...event, type: "quartet.user.state.v2" };
    const both = { ...later, data: { ...rest, displayName, name: displayName, pronouns: "she" } };
    const read = decodeUserMessage({ data: JSON.stringify(both), subject });
    expect(read).toMatchObject({ type: "quartet.user.state.v1", data: { displayName } });
    expect(read.data).not.toHaveProperty("pronouns");
    const contracted = { ...later, data: { ...rest, name: displayName } };
    expect(() => decodeUserMessage({ data: JSON.stringify(contracted), subject })).toThrow(UndecodableEvent);
  });
});
