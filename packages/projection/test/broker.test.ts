import { createTestEngine, type TestEngine } from "@quartet/engines";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { Broker, type Logger } from "../src/index.ts";
import { until } from "./support.ts";

const SUBJECT = "activity.search";
const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

let nats: TestEngine;
const open: Broker[] = [];
beforeAll(async () => {
  nats = await createTestEngine("nats");
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((broker) => broker.close()));
});
afterAll(() => nats?.dispose());

function connectAs(service: string): Broker {
  const broker = new Broker({ url: nats.urlFor(service), inboxPrefix: `_INBOX_${service}` }, silent);
  open.push(broker);
  return broker;
}

it("says to whoever listens, again after the server was away; what is said meanwhile is dropped", async () => {
  const [speaker, listener] = [connectAs("search"), connectAs("search")];
  const heard = new Set<string>();
  listener.hear(SUBJECT, (text) => void heard.add(text));
  /** Says it until it is heard: what is said before the server knows of the listener is missed. */
  const arrives = (text: string) =>
    until(text, () => {
      speaker.say(SUBJECT, text);
      return heard.has(text);
    });
  speaker.say(SUBJECT, "too early");
  await arrives("first");
  await nats.kill();
  await until("it is noticed", () => !speaker.up && !listener.up);
  speaker.say(SUBJECT, "too late");
  await nats.start();
  await arrives("second");
  expect([...heard]).toEqual(["first", "second"]);
});

it("is neither heard nor spoken to by another service, which stays connected", async () => {
  const [speaker, listener, stranger] = [connectAs("search"), connectAs("search"), connectAs("user")];
  const heard = new Set<string>();
  const overheard: string[] = [];
  listener.hear(SUBJECT, (text) => void heard.add(text));
  stranger.hear(SUBJECT, (text) => void overheard.push(text));
  await until("they are connected", () => speaker.up && listener.up && stranger.up);
  stranger.say(SUBJECT, "forged");
  await stranger.require().flush();
  await until("ours is heard", () => {
    speaker.say(SUBJECT, "ours");
    return heard.has("ours");
  });
  // The server answers in order: had it sent anything, it would be here.
  await stranger.require().flush();
  expect([...heard, ...overheard]).toEqual(["ours"]);
  expect(stranger.up).toBe(true);
});

it("knows of a frozen server at once, before the missed pings tell", async () => {
  const broker = connectAs("search");
  expect(await broker.answers()).toBe(false);
  await until("it answers", () => broker.answers());
  nats.freeze();
  expect(await broker.answers(200)).toBe(false);
  expect(broker.up).toBe(true);
  nats.thaw();
  await until("it answers again", () => broker.answers());
});
