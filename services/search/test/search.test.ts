import { type EventData, emit, encodeToken, type Outgoing, subjects, uuidv7 } from "@quartet/contracts";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { makeStreams } from "@quartet/projection/testing";
import { eventually, type ServiceProcess, startService } from "@quartet/service/testing";
import { connect, type NatsConnection } from "nats";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

type State = EventData<"quartet.user.state.v1">;
const main = new URL("../src/main.ts", import.meta.url);

let nats: TestEngine;
let elasticsearch: TestEngine;
let nc: NatsConnection;
let search: ServiceProcess;
let version = 1;

beforeAll(async () => {
  [nats, elasticsearch] = await Promise.all([createTestEngine("nats"), createTestEngine("elasticsearch")]);
  const { host, username, password } = new URL(nats.url);
  nc = await connect({ servers: host, user: username, pass: password });
  await makeStreams(nc);
  search = await startService("search", main, {
    ELASTICSEARCH_URL: elasticsearch.urlFor("search"),
    NATS_URL: nats.urlFor("search"),
  });
  await eventually(() => search.ready(), { withinMs: 60_000, what: "the service" });
});
afterAll(async () => {
  await search?.kill();
  await nc?.close();
  await Promise.all([nats?.dispose(), elasticsearch?.dispose()]);
});

function state(fields: Partial<State> & { displayName: string }): State {
  const id = fields.id ?? uuidv7();
  const at = new Date().toISOString();
  return {
    id,
    handle: `h_${id.slice(-10)}`,
    bio: "",
    country: null,
    tags: [],
    revision: 1,
    createdAt: at,
    updatedAt: at,
    credentialEpoch: 0,
    keptSessionId: null,
    ...fields,
  };
}

async function say(...events: Outgoing[]): Promise<void> {
  const js = nc.jetstream();
  await Promise.all(events.map((e) => js.publish(e.subject, JSON.stringify(e.event))));
}

/** Publishes people and returns the token that asks for all of them. */
async function add(...people: State[]): Promise<string> {
  const events = people.map((p) => ({
    id: p.id,
    version: ++version,
    event: emit.userState(p, version, { time: new Date() }),
  }));
  await say(...events.map((e) => e.event));
  return encodeToken({ u: events.slice(-50).map((e) => [e.id, e.version]) });
}

async function find(query: Record<string, string>, after?: string) {
  const headers: Record<string, string> = after ? { "Consistency-Token": after, Prefer: "wait=10" } : {};
  return search.call("GET", `/v1/search?${new URLSearchParams(query)}`, { headers });
}

const names = (body: { hits: { displayName: string }[] }) => body.hits.map((h) => h.displayName);

describe("relevance", () => {
  it("folds, forgives, completes, and puts the exact handle first", async () => {
    const token = await add(
      state({ displayName: "José Müller", handle: "zz_first", bio: "Straßenbahn enthusiast" }),
      state({ displayName: "Łukasz Żółć", country: "PL" }),
      state({ displayName: "Þór Ægisson" }),
      state({ displayName: "Иван Петров" }),
      state({ displayName: "高橋 健" }),
      state({ displayName: "Nguyễn Thị Ánh" }),
      state({ displayName: "أحمد المصري" }),
      state({ displayName: "Maria O'Brien", tags: ["night-owl"] }),
      state({ displayName: "zz first zz first", bio: "zz first" }),
    );
    await find({ q: "" }, token);
    const table: [string, string][] = [
      ["jose", "José Müller"],
      ["MÜLLER", "José Müller"],
      ["muller", "José Müller"],
      ["josé mull", "José Müller"],
      ["jsoe", "José Müller"],
      ["strassenbahn", "José Müller"],
      ["lukasz", "Łukasz Żółć"],
      ["zolc", "Łukasz Żółć"],
      ["thor", "Þór Ægisson"],
      ["aegisson", "Þór Ægisson"],
      ["иван", "Иван Петров"],
      ["петр", "Иван Петров"],
      ["高橋", "高橋 健"],
      ["nguyen", "Nguyễn Thị Ánh"],
      ["anh", "Nguyễn Thị Ánh"],
      ["أحمد", "أحمد المصري"],
      ["mar", "Maria O'Brien"],
      ["obrien", "Maria O'Brien"],
      ["o’brien", "Maria O'Brien"],
      ["night-owl", "Maria O'Brien"],
      ["@zz_first", "José Müller"],
      ["zz_first", "José Müller"],
    ];
    for (const [q, expected] of table) expect(names((await find({ q })).body), q).toContain(expected);
    expect((await find({ q: "@ZZ_first" })).body.hits[0].displayName).toBe("José Müller");
    for (const q of ["jose petrov", "qqqqqq", "***", "( ) OR", "\\"]) expect((await find({ q })).body.total, q).toBe(0);
  });

  it("marks the matched words in the original text, HTML-escaped", async () => {
    const token = await add(state({ displayName: "Renée <b>Ünal</b>", bio: "5 < 6 & Ünal" }));
    const { body } = await find({ q: "renee unal" }, token);
    expect(body.hits[0].highlight.displayName).toEqual(["<em>Renée</em> &lt;b&gt;<em>Ünal</em>&lt;/b&gt;"]);
    expect(body.hits[0].highlight.bio).toEqual(["5 &lt; 6 &amp; <em>Ünal</em>"]);
  });
});

describe("pages", () => {
  it("show everybody once while people change, and nobody who was erased meanwhile", async () => {
    const people = Array.from({ length: 30 }, (_, i) => state({ displayName: `Pager ${i}`, tags: ["paged"] }));
    let { body } = await find({ tag: "paged", limit: "10" }, await add(...people));
    const seen: string[] = body.hits.map((h: { id: string }) => h.id);
    const victim = people.find((p) => !seen.includes(p.id)) as State;
    const gone = ++version;
    await say(emit.userTombstone(victim.id, gone, { time: new Date() }));
    await eventually(async () => {
      const as = { kind: "service", name: "user" } as const;
      const answer = await search.call("POST", "/internal/erasures", {
        as,
        body: { userId: victim.id, version: gone },
      });
      return answer.body.state === "complete";
    });
    while (body.nextCursor) {
      await add(...people.filter((p) => p !== victim).map((p) => ({ ...p, displayName: `${p.displayName} again` })));
      ({ body } = await find({ tag: "paged", limit: "10", cursor: body.nextCursor }));
      seen.push(...body.hits.map((h: { id: string }) => h.id));
    }
    expect(seen).not.toContain(victim.id);
    expect(new Set(seen)).toEqual(new Set(people.filter((p) => p !== victim).map((p) => p.id)));
    expect(seen).toHaveLength(29);
  });

  it("refuses a cursor of another query, a made-up and an altered one", async () => {
    const { body } = await find({ tag: "paged", limit: "5" });
    const cursor = body.nextCursor as string;
    for (const [query, c] of [
      [{ tag: "other" }, cursor],
      [{ tag: "paged" }, `x${cursor}`],
      [{ tag: "paged" }, "e30.e30"],
    ] as const) {
      const answer = await find({ ...query, cursor: c });
      expect(answer.status).toBe(400);
      expect(answer.body.errors[0].path).toBe("cursor");
    }
  });
});

describe("tombstones", () => {
  it("outlast what Elasticsearch remembers of deletions, and every late state", async () => {
    const admin = (path: string, init: RequestInit = {}) => {
      const url = new URL(elasticsearch.url);
      const auth = `Basic ${Buffer.from(`${url.username}:${url.password}`).toString("base64")}`;
      return fetch(`http://${url.host}${path}`, {
        ...init,
        headers: { "Content-Type": "application/json", Authorization: auth },
      });
    };
    await admin("/users/_settings", { method: "PUT", body: JSON.stringify({ "index.gc_deletes": "100ms" }) });
    const person = state({ displayName: "Lazarus Example" });
    await find({ q: "lazarus" }, await add(person));
    const old = version;
    version += 2;
    await say(emit.userTombstone(person.id, version, { time: new Date() }));
    await eventually(async () => (await find({ q: "lazarus" })).body.total === 0);
    await admin("/users/_flush", { method: "POST" });
    await admin("/users/_forcemerge?max_num_segments=1", { method: "POST" });
    // The late state, as a thawed relay would send it, then one that shows when it has been passed.
    await say(emit.userState(person, old + 1, { time: new Date() }));
    await find({ q: "witness" }, await add(state({ displayName: "Witness" })));
    expect((await find({ q: "lazarus" })).body.total).toBe(0);
    const stored = (await (await admin(`/users/_doc/${person.id}`)).json()) as { _source: object };
    expect(Object.keys(stored._source).sort()).toEqual(["bucket", "deleted", "id"]);
    // The log is compacted to its last message: leave the truth there. (The relay's fence keeps it there, the audit mends it.)
    await say(emit.userTombstone(person.id, version, { time: new Date() }));
  });
});

describe("a store in trouble", () => {
  it("is a 503 while it is frozen, and catches up after", async () => {
    elasticsearch.freeze();
    const frozen = await find({ q: "anybody" });
    expect(frozen.status).toBe(503);
    expect(Number(frozen.headers.get("retry-after"))).toBeGreaterThan(0);
    const token = await add(state({ displayName: "Written Meanwhile" }));
    elasticsearch.thaw();
    await eventually(
      async () => {
        const { status, body } = await find({ q: "meanwhile" }, token);
        return status === 200 && names(body).includes("Written Meanwhile");
      },
      { withinMs: 60_000 },
    );
  });

  it("refills by itself when Elasticsearch has lost everything", async () => {
    const { body: before } = await find({ q: "" });
    expect(before.total).toBeGreaterThan(30);
    await elasticsearch.wipe();
    await elasticsearch.start();
    await eventually(async () => (await find({ q: "" })).body.total === before.total, {
      withinMs: 90_000,
      what: "the refill",
    });
  }, 180_000);

  it("shows what it holds to the audit", async () => {
    const as = { kind: "service", name: "user" } as const;
    const { body } = await search.call("GET", "/internal/digests", { as });
    expect(body.buckets).toHaveLength(256);
    const total = body.buckets.reduce((sum: number, b: { count: number }) => sum + b.count, 0);
    expect(total).toBe((await find({ q: "" })).body.total);
    const bucket = body.buckets.findIndex((b: { count: number }) => b.count > 0);
    const { body: one } = await search.call("GET", `/internal/digests/${bucket}`, { as });
    expect(one.users).toHaveLength(body.buckets[bucket].count);
    expect(subjects.user(one.users[0].id)).toMatch(/^users\./);
    expect((await search.call("GET", "/internal/digests")).status).toBe(401);
  });
});
