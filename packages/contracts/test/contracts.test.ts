import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  BucketDigest,
  decodeEvent,
  decodeToken,
  emit,
  encodeToken,
  factId,
  importBody,
  isUuid,
  MalformedToken,
  makeVersion,
  mergeTokens,
  natsUsers,
  STREAMS,
  signUpBody,
  splitVersion,
  subjects,
  trackBody,
  UndecodableEvent,
  upcasters,
  uuidv7,
} from "../src/index.ts";

const id = uuidv7();
const now = new Date("2026-01-02T03:04:05.678Z");
const good = { email: "Ada@Example.org", password: "correct horse battery", handle: "ada", displayName: "Ada" };
const paths = (body: unknown) =>
  signUpBody
    .safeParse(body)
    .error?.issues.flatMap((i) => (i.code === "unrecognized_keys" ? i.keys : [i.path.join(".")])) ?? [];

describe("sign-up body", () => {
  it("folds the email's case and fills the optional fields", () => {
    expect(signUpBody.parse(good)).toMatchObject({ email: "ada@example.org", bio: "", country: null, tags: [] });
  });
  it.each([
    ["email", { email: "not an address" }],
    ["email", { email: `${"a".repeat(250)}@b.de` }],
    ["password", { password: "short" }],
    ["password", { password: "x".repeat(257) }],
    ["handle", { handle: "Ada" }],
    ["handle", { handle: "ab" }],
    ["displayName", { displayName: "" }],
    ["displayName", { displayName: "a\u0000b" }],
    ["displayName", { displayName: "\ud800" }],
    ["displayName", { displayName: "😀".repeat(81) }],
    ["bio", { bio: "x".repeat(501) }],
    ["country", { country: "XX" }],
    ["tags", { tags: Array.from({ length: 11 }, (_, i) => `t${i}`) }],
    ["tags.1", { tags: ["ok", "Not Ok"] }],
    ["admin", { admin: true }],
  ])("refuses a bad %s and names it", (path, change) => {
    expect(paths({ ...good, ...change })).toContain(path);
  });
  it.each([
    "a&b@example.org",
    "user%x@example.org",
    "a/b+c=d@example.org",
    "a@example.xn--p1ai",
    "a@b.example.co",
    `${"a".repeat(64)}@example.org`,
  ])("takes %s as an address", (email) => {
    expect(paths({ ...good, email })).toEqual([]);
  });
  it.each([
    "a@exam-.org",
    "a@-exam.org",
    "a@b",
    ".a@example.org",
    "a..b@example.org",
    "a b@example.org",
    "a@b@example.org",
    `${"a".repeat(65)}@example.org`,
    `a@${"b".repeat(64)}.org`,
    "a@example.org\n",
    // Lower case makes an ASCII address of it: of somebody else.
    "\u212Aate@example.org",
    "ä@example.org",
  ])("does not take %j as an address", (email) => {
    expect(paths({ ...good, email })).toContain("email");
  });
  it.each([
    "\u200b",
    "\u3164",
    "\u00ad\u2060",
    "\u2800",
    "\u115f \u17b4",
    "\u0301",
    "\ufdd0",
    "\ue000",
    "\u202eabc",
    "a\u2066b",
    "a\u2028b",
    "\u{13441}",
  ])("does not take %j as a name", (displayName) => expect(paths({ ...good, displayName })).toContain("displayName"));
  it.each([
    "क्\u200dष",
    "\u200fשלום",
    "می\u200cخواهم",
    "👩\u200d👩\u200d👧",
    "🏴\u{e0067}\u{e007f}",
    "e\u0301",
    "한",
    "7",
    "!",
    "\u2801",
    "€",
  ])("takes %j as a name", (displayName) => expect(paths({ ...good, displayName })).toEqual([]));
  it("counts characters, not UTF-16 units", () => {
    expect(paths({ ...good, displayName: "😀".repeat(80) })).toEqual([]);
  });
});

describe("import body", () => {
  it("takes any key and leaves the judgement of an email to the owner", () => {
    for (const email of ["not valid", "x".repeat(5000), "", null]) {
      const users = [{ key: "\u0000 any key", email, displayName: "X" }];
      expect(importBody.safeParse({ users }).success).toBe(true);
    }
  });
});

describe("track body", () => {
  const ok = (event: object) => trackBody.safeParse({ events: [event] }).success;
  it("holds names, ids, times and properties to their limits", () => {
    expect(
      ok({
        name: "a.b_c",
        id: "x".repeat(128),
        occurredAt: "1970-01-01T00:00:00Z",
        properties: { k: "x".repeat(512) },
      }),
    ).toBe(true);
    expect(ok({ name: "A" })).toBe(false);
    expect(ok({ name: "a", id: "with space" })).toBe(false);
    expect(ok({ name: "a", occurredAt: "2100-01-01T00:00:00Z" })).toBe(false);
    expect(ok({ name: "a", occurredAt: "1969-12-31T23:59:59Z" })).toBe(false);
    expect(ok({ name: "a", properties: { K: 1 } })).toBe(false);
    expect(ok({ name: "a", properties: { k: { nested: 1 } } })).toBe(false);
    expect(ok({ name: "a", properties: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, i])) })).toBe(
      false,
    );
  });
});

describe("events", () => {
  it("every maker makes what decodeEvent reads", () => {
    const state = {
      id,
      handle: "ada",
      displayName: "Ada",
      bio: "",
      country: null,
      tags: [],
      revision: 1,
      createdAt: now.toISOString(),
      updatedAt: now.toISOString(),
      credentialEpoch: 0,
      keptSessionId: null,
    };
    const all = [
      emit.userState(state, 7, { time: now }),
      emit.userTombstone(id, 8, { time: now }),
      emit.userFact("created", id, 1, { time: now }),
      emit.userFact("updated", id, 2, { time: now, fields: ["bio"] }),
      emit.userFact("erased", id, 3, { time: now }),
      emit.sessionStarted(id, "s1", { time: now }),
      emit.sessionActive(id, "s1", { time: now }),
      emit.sessionEnded(id, "s1", "logout", 3.5, { time: now }),
      emit.track(
        factId.anonymousTrack("x", { name: "a.b" }),
        { name: "a.b", userId: null, properties: { n: 1 } },
        { time: now },
      ),
      emit.heartbeat("USERS", "user", now),
    ];
    for (const out of all)
      expect(decodeEvent(JSON.stringify(out.event))).toEqual(JSON.parse(JSON.stringify(out.event)));
    expect(all[0]!.msgId).toBeNull();
    expect(all[1]!.subject).toBe(`users.${id}`);
    expect(all[8]!.subject).toBe("facts.track.a-b.-");
  });
  it("calls garbage undecodable and nothing else", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((s) => new TextEncoder().encode(s)),
        ),
        (bytes) => {
          try {
            decodeEvent(bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(UndecodableEvent);
          }
        },
      ),
    );
  });
  it("reads a later version of a known type as the newest it knows, dropping added fields", () => {
    const { event } = emit.userFact("created", id, 1, { time: now });
    const later = { ...event, type: "quartet.user.created.v9", data: { userId: id, added: true } };
    expect(decodeEvent(JSON.stringify(later))).toMatchObject({ type: "quartet.user.created.v1", data: { userId: id } });
  });
  it("upcasters chain", () => {
    upcasters["quartet.test.user.v0"] = (e) => ({
      ...e,
      type: "quartet.user.created.v1",
      data: { userId: (e.data as { uid: string }).uid },
    });
    const { event } = emit.userFact("created", id, 1, { time: now });
    const old = { ...event, type: "quartet.test.user.v0", data: { uid: id } };
    expect(decodeEvent(JSON.stringify(old)).data).toEqual({ userId: id });
    delete upcasters["quartet.test.user.v0"];
  });
});

describe("ids, versions, tokens, digests", () => {
  it("uuidv7 sorts by time and is a UUID", () => {
    expect(isUuid(uuidv7())).toBe(true);
    expect(uuidv7(1) < uuidv7(2)).toBe(true);
  });
  it("a later epoch beats every counter of an earlier one", () => {
    fc.assert(
      fc.property(fc.nat(8190), fc.nat(2 ** 31), fc.nat(2 ** 31), (epoch, a, b) => {
        expect(makeVersion(epoch + 1, a)).toBeGreaterThan(makeVersion(epoch, b));
        expect(splitVersion(makeVersion(epoch, a))).toEqual({ epoch, counter: a });
        expect(Number.isSafeInteger(makeVersion(epoch + 1, a))).toBe(true);
      }),
    );
  });
  it("a token survives its header and merges to the most demanding", () => {
    const a = { u: [[id, 3] as [string, number]], t: { seq: 5, stream: "x" } };
    expect(decodeToken(encodeToken(a))).toEqual(a);
    const merged = mergeTokens(a, { u: [[id, 9]], f: ["f1"], t: { seq: 4, stream: "x" } }, undefined);
    expect(merged).toEqual({ u: [[id, 9]], f: ["f1"], t: { seq: 5, stream: "x" } });
  });
  it.each([
    "",
    "!",
    "e30=",
    Buffer.from("[]").toString("base64url"),
    Buffer.from('{"x":1}').toString("base64url"),
    "a".repeat(7000),
  ])("refuses a malformed token (case %#)", (text) => {
    expect(() => decodeToken(text)).toThrow(MalformedToken);
  });
  it("a bucket digest does not depend on order and shows a single change", () => {
    const digest = (pairs: [string, string][]) => {
      const d = new BucketDigest();
      for (const [k, v] of pairs) d.add(k, v, 1);
      return d.value();
    };
    expect(
      digest([
        ["a", "1"],
        ["b", "2"],
      ]),
    ).toEqual(
      digest([
        ["b", "2"],
        ["a", "1"],
      ]),
    );
    expect(
      digest([
        ["a", "1"],
        ["b", "2"],
      ]),
    ).not.toEqual(
      digest([
        ["a", "1"],
        ["b", "3"],
      ]),
    );
  });
});

describe("NATS permissions", () => {
  it("let nobody but the user service say anything on USERS, purge, or hear another's inbox", () => {
    for (const { name, permissions } of natsUsers()) {
      const says = permissions.publish.allow;
      expect(says.some((s) => s.startsWith("users."))).toBe(name === "user");
      expect(
        says.some((s) => s.includes("PURGE") || s.includes("STREAM.MSG.DELETE") || s.includes("STREAM.CREATE")),
      ).toBe(name === "user");
      expect(permissions.subscribe.allow).toEqual([`_INBOX_${name}.>`, `activity.${name}`]);
    }
  });
  it("let a service's processes tell each other what they saw, and no other service hear or say it; no stream keeps it", () => {
    for (const { name, permissions } of natsUsers()) {
      const { publish, subscribe } = permissions;
      const about = [...publish.allow, ...subscribe.allow].filter((s) => /^(activity|\*|>)/.test(s));
      expect(about).toEqual([subjects.activity(name), subjects.activity(name)]);
    }
    const kept = Object.values(STREAMS).flatMap((stream) => stream.subjects.map((subject) => subject.split(".")[0]));
    expect(new Set(kept)).toEqual(new Set(["users", "heartbeat", "facts", "dead"]));
  });
  it("has a subject for every fact under one person's filter", () => {
    expect(subjects.fact("track", "a.b.c", id).split(".")).toHaveLength(4);
    expect(subjects.factsOf(id)).toBe(`facts.*.*.${id}`);
  });
});
