import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Activity, markOf, type Sighting } from "../src/activity.ts";
import { shareActivity } from "../src/activity-sharing.ts";

const T = 1_800_000_000_000;
const person = "0190b5a0-7e64-7c3a-9a55-2f1f3b1f9d11";

/** Everybody is connected, and nothing takes time. */
class Room {
  readonly said: [subject: string, text: string][] = [];
  readonly listeners: [subject: string, listener: (text: string) => void][] = [];
  say(subject: string, text: string): void {
    this.said.push([subject, text]);
    for (const [wanted, listener] of this.listeners) if (wanted === subject) listener(text);
  }
  hear(subject: string, listener: (text: string) => void): void {
    this.listeners.push([subject, listener]);
  }
}

let room: Room;
let served: Activity;
const ends: (() => void)[] = [];
const share = (role: string, seen: Activity) => ends.push(shareActivity("user", role, room, seen));

beforeEach(() => {
  vi.useFakeTimers({ now: T });
  room = new Room();
  served = new Activity();
});
afterEach(() => {
  for (const end of ends.splice(0)) end();
  vi.useRealTimers();
});

describe("what a process without the API saw", () => {
  it("is told by the one that serves it, to whoever asks only for what is new, each event with its own time", () => {
    const relay = new Activity();
    share("api", served);
    share("relay", relay);
    vi.advanceTimersByTime(10);
    relay.saw("publish.user", `users.${person}`, 12);
    relay.saw("publish.user", "heartbeat.users.user");
    vi.advanceTimersByTime(190);
    // Whoever asked a moment ago knows all up to here; the tenth in which it was seen is older than that.
    expect(served.since(T + 200)).toEqual([]);
    vi.advanceTimersByTime(100);
    expect(served.since(T + 200)).toEqual([
      { hop: "publish.user", kind: "state", at: T + 300, n: 1, some: [[markOf(person), T + 10, 12]] },
      { hop: "publish.user", kind: "heartbeat", at: T + 300, n: 1 },
    ]);
    expect(served.since(T + 300)).toEqual([]);
  });

  it("is sent in one message for several tenths, once, without an id, and not at all while there is nothing", () => {
    const relay = new Activity();
    share("relay", relay);
    relay.saw("publish.user", `users.${person}`);
    vi.advanceTimersByTime(100);
    relay.saw("publish.user", `facts.user.created.${person}`);
    vi.advanceTimersByTime(2_000);
    expect(room.said.map(([subject]) => subject)).toEqual(["activity.user"]);
    const [[, text]] = room.said as [[string, string]];
    expect((JSON.parse(text) as Sighting[]).map(({ kind, at }) => [kind, at])).toEqual([
      ["state", T + 100],
      ["user.created", T + 200],
    ]);
    expect(text).not.toContain(person);
  });

  it("of two processes is kept apart from what this one saw itself", () => {
    const [one, other] = [new Activity(), new Activity()];
    share("api", served);
    share("projector", one);
    share("projector", other);
    for (const seen of [one, other, served]) seen.saw("apply.search", `users.${person}`);
    vi.advanceTimersByTime(300);
    expect(served.since(T).map(({ n, at }) => [n, at])).toEqual([
      [1, T + 100],
      [1, T + 300],
      [1, T + 300],
    ]);
  });

  it("is neither sent nor heard by a process with all roles", () => {
    share("all", served);
    served.saw("publish.user", `users.${person}`);
    vi.advanceTimersByTime(1_000);
    expect([room.said, room.listeners]).toEqual([[], []]);
  });

  it("is forgotten after five seconds, and not taken in when it is as old", () => {
    share("api", served);
    const seen = (at: number) => room.say("activity.user", JSON.stringify([{ hop: "h", kind: "k", at, n: 1 }]));
    seen(T - 5_001);
    seen(T - 5_000);
    vi.advanceTimersByTime(100);
    expect(served.since(T)).toHaveLength(1);
    vi.advanceTimersByTime(5_100);
    expect(served.since(T)).toEqual([]);
  });
});

it("a clock that was set back does not make it remember more", () => {
  const activity = new Activity();
  activity.saw("publish.user", `users.${person}`, null, T);
  const earlier = T - 3_600_000;
  for (let i = 0; i < 1000; i++) activity.saw("publish.user", `users.${person}`, null, earlier + i * 100);
  expect(activity.since(0, earlier + 100_000).length).toBeLessThanOrEqual(51);
});

describe("what is no message of a process", () => {
  const good = { hop: "publish.user", kind: "state", at: T, n: 1, some: [["0a1b2c3d", T, null]] };
  it.each([
    "",
    "{",
    "null",
    "[null]",
    JSON.stringify(good),
    JSON.stringify([{ ...good, n: 0 }]),
    JSON.stringify([{ ...good, at: "now" }]),
    JSON.stringify([{ ...good, hop: "x".repeat(101) }]),
    JSON.stringify([{ ...good, some: [[person, T, null]] }]),
    JSON.stringify([{ ...good, some: Array(25).fill(["0a1b2c3d", T, null]) }]),
    JSON.stringify([good, { hop: "publish.user" }]),
    JSON.stringify(Array(501).fill(good)),
  ])("is dropped (case %#)", (text) => {
    share("api", served);
    room.say("activity.user", text);
    vi.advanceTimersByTime(100);
    expect(served.since(T)).toEqual([]);
  });

  it("and what a message has beside the sightings does not get in", () => {
    share("api", served);
    room.say("activity.user", JSON.stringify([{ ...good, userId: person }]));
    vi.advanceTimersByTime(100);
    expect(served.since(T)).toEqual([{ ...good, at: T + 100 }]);
  });
});
