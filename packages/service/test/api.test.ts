import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import {
  awaitFreshness,
  badRequest,
  createApi,
  createLogger,
  currentTraceparent,
  finishApi,
  type Identity,
  identify,
  type Listening,
  listen,
  metrics,
  notFound,
  parseBody,
  parseParams,
  parseQuery,
  parseWait,
  readFreshness,
  requireOperator,
  requireSelfOrOperator,
  requireService,
  setAsOf,
  unavailable,
} from "../src/index.ts";
import { keyringOf, signAs } from "../src/testing.ts";

const Thing = z.strictObject({ name: z.string().max(5), tags: z.array(z.string().regex(/^[a-z]+$/)).optional() });
let api: Listening;

beforeAll(async () => {
  const app = createApi({
    name: "test",
    logger: createLogger("test", "silent"),
    bodyLimitBytes: 1024,
    admit: identify(keyringOf("search")),
  });
  app.post("/things", (req, res) => void res.status(201).json(parseBody(Thing, req)));
  app.get(
    "/things",
    (req, res) =>
      void res.json(parseQuery(z.strictObject({ limit: z.coerce.number().int().max(100).optional() }), req)),
  );
  app.get("/things/:id", (req, res) => void res.json(parseParams(z.strictObject({ id: z.uuid() }), req)));
  app.delete("/things/:id", (req, res) => void res.json(requireSelfOrOperator(req, req.params.id)));
  app.get("/operator", (req, res) => void res.json({ ok: requireOperator(req) ?? true }));
  app.get("/service", (req, res) => void res.json({ caller: requireService(req, "user") }));
  app.get("/trace", async (_req, res) => {
    await new Promise((done) => setImmediate(done));
    res.json({ traceparent: currentTraceparent() });
  });
  app.get("/crash", async () => {
    throw new Error("the secret inside");
  });
  app.get("/zod", () => Thing.parse({ name: 1 }) as never);
  app.get("/down", () => Promise.reject(unavailable("postgres", 3)));
  app.get("/gone", () => Promise.reject(notFound("no such thing")));
  app.get("/fresh", async (req, res) => {
    const { waitMs, token } = readFreshness(req);
    let looks = 0;
    const hangs = () => new Promise<boolean>(() => {});
    const check = () => (++looks > 1 && req.query.hangs ? hangs() : looks > Number(req.query.after));
    if (token) await awaitFreshness(res, { waitMs, check });
    setAsOf(res, new Date(0));
    res.json({ waitMs, looks });
  });
  api = await listen(finishApi(app), { host: "127.0.0.1", port: 0 });
});
afterAll(() => api.close(100));

const send = (path: string, init: RequestInit = {}) => fetch(api.url + path, init);
const post = (
  body: string | Buffer<ArrayBuffer>,
  headers: Record<string, string> = { "content-type": "application/json" },
  path = "/things",
) => send(path, { method: "POST", body, headers });
// biome-ignore lint/suspicious/noExplicitAny: answers are looked into by the assertions
const json = async (res: Response): Promise<any> => res.json();

describe("bad input is a 4xx problem that names the field", () => {
  const cases: [string, () => Promise<Response>, number, string[]][] = [
    ["malformed JSON", () => post("{"), 400, ["body"]],
    ["an array", () => post("[]"), 400, ["body"]],
    ["null", () => post("null"), 400, ["body"]],
    ["no body", () => send("/things", { method: "POST" }), 400, ["body"]],
    ["invalid UTF-8", () => post(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])), 400, ["body"]],
    ["a number no double holds", () => post('{"name":"a","tags":[9007199254740993]}'), 400, ["tags.0"]],
    ["a key given twice", () => post('{"name":"a","name":"b"}'), 400, ["name"]],
    ["a lone surrogate", () => post('{"name":"\\ud800"}'), 400, ["name"]],
    ["20,000 brackets", () => post("[".repeat(1000)), 400, ["body"]],
    ["another content type", () => post("{}", { "content-type": "text/plain" }), 415, ["Content-Type"]],
    [
      "another charset",
      () => post("{}", { "content-type": "application/json; charset=latin1" }),
      415,
      ["Content-Type"],
    ],
    [
      "a compressed body",
      () => post("{}", { "content-type": "application/json", "content-encoding": "gzip" }),
      415,
      ["Content-Type"],
    ],
    [
      "a missing, a wrong and an unknown field",
      () => post('{"tags":["a","B"],"__proto__":1,"x":2}'),
      400,
      ["name", "tags.1", "__proto__", "x"],
    ],
    ["a bad query", () => send("/things?limit=9999&q=%zz"), 400, ["limit", "q"]],
    ["a repeated parameter", () => send("/things?limit=1&limit=x"), 400, ["limit"]],
    ["a bad id", () => send("/things/1"), 400, ["id"]],
    ["malformed percent-encoding", () => send("/things/%zz"), 400, ["path"]],
    ["a stray zod error", () => send("/zod"), 400, ["name"]],
    [
      "a token that is none",
      () => send("/fresh", { headers: { "consistency-token": "?" } }),
      400,
      ["Consistency-Token"],
    ],
  ];
  for (const [what, request, status, paths] of cases) {
    it(what, async () => {
      const res = await request();
      expect(res.status).toBe(status);
      expect(res.headers.get("content-type")).toMatch(/^application\/problem\+json/);
      expect(res.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
      expect(res.headers.get("x-powered-by")).toBeNull();
      const problem = await json(res);
      expect(problem).toMatchObject({
        status,
        type: expect.stringMatching(/^urn:/),
        title: expect.any(String),
        detail: expect.any(String),
        instance: expect.stringMatching(/^\//),
      });
      expect(problem.errors.map((e: { path: string }) => e.path).sort()).toEqual([...paths].sort());
    });
  }

  it("a good body passes, with a charset and a +json type", async () => {
    expect((await post('{"name":"a"}', { "content-type": "Application/JSON; charset=UTF-8" })).status).toBe(201);
    expect(await json(await post('{"name":"é"}', { "content-type": "application/cloudevents+json" }))).toEqual({
      name: "é",
    });
  });
});

describe("large bodies", () => {
  for (const path of ["/things", "/nowhere", "/things/1"]) {
    it(`10 MB to ${path} is a 413, declared and chunked, and the connection goes on`, async () => {
      const big = Buffer.alloc(10 * 1024 * 1024, 32);
      const declared = await post(big, undefined, path);
      expect([declared.status, (await json(declared)).errors[0].path]).toEqual([413, "body"]);
      const stream = new ReadableStream({
        start(controller) {
          for (let i = 0; i < 160; i++) controller.enqueue(big.subarray(0, 65_536));
          controller.close();
        },
      });
      const chunked = await send(path, { method: "POST", body: stream, duplex: "half" } as RequestInit);
      expect(chunked.status).toBe(413);
      await chunked.arrayBuffer();
    });
  }

  it("a GET with a 10 MB body is refused too", async () => {
    const socket = connect(new URL(api.url).port as unknown as number, "127.0.0.1");
    socket.write("GET /things HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n");
    socket.write(Buffer.alloc(10_000_000));
    socket.write("GET /gone HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let text = "";
    for await (const chunk of socket) text += chunk;
    expect([...text.matchAll(/HTTP\/1.1 (\d+)/g)].map((m) => m[1])).toEqual(["413", "404"]);
  });

  it("a client that goes away in the middle of its body does no harm", async () => {
    const socket = connect(new URL(api.url).port as unknown as number, "127.0.0.1");
    await new Promise<void>((done) =>
      socket.write("POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", () => done()),
    );
    socket.destroy();
    expect((await post('{"name":"a"}')).status).toBe(201);
  });
});

describe("routing and errors", () => {
  it("tells an unknown path from a wrong method, and says what is allowed", async () => {
    expect((await send("/nowhere")).status).toBe(404);
    expect((await send("/Things")).status).toBe(404);
    const wrong = await send("/things", { method: "PATCH" });
    expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "GET, HEAD, POST"]);
    expect((await send("/things/1", { method: "POST" })).headers.get("allow")).toBe("DELETE, GET, HEAD");
    expect((await send("/things", { method: "HEAD" })).status).toBe(200);
    expect((await send("/things", { method: "OPTIONS" })).status).toBe(204);
  });

  it("an unforeseen error is a 500 without internals, a dead store a 503 with Retry-After", async () => {
    const crash = await send("/crash");
    expect(crash.status).toBe(500);
    expect(JSON.stringify(await json(crash))).not.toMatch(/secret|at .*\.ts/);
    const down = await send("/down");
    expect([down.status, down.headers.get("retry-after")]).toEqual([503, "3"]);
  });

  it("what is not HTTP gets a problem", async () => {
    for (const [bytes, status] of [
      ["nonsense\r\n\r\n", 400],
      [`GET / HTTP/1.1\r\nHost: x\r\nX: ${"y".repeat(40_000)}\r\n\r\n`, 431],
      ["GET / HTTP/1.1\r\n\r\n", 400],
      ["GET / HTTP/1.1\r\nHost: x\r\nExpect: the unexpected\r\n\r\n", 417],
      ["CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 405],
      ["CONJURE / HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ] as const) {
      const socket = connect(new URL(api.url).port as unknown as number, "127.0.0.1");
      socket.write(bytes);
      let text = "";
      for await (const chunk of socket) text += chunk;
      expect(text).toMatch(`HTTP/1.1 ${status}`);
      expect(text).toMatch("application/problem+json");
      expect(text).toMatch(/\r\nX-Request-Id: [0-9a-f-]{36}\r\n/);
      expect(JSON.parse(text.slice(text.indexOf("\r\n\r\n")))).toMatchObject({ status, instance: expect.any(String) });
    }
  });

  it("keeps a valid request id, makes another for an invalid one, and continues a trace", async () => {
    const kept = await send("/gone", { headers: { "x-request-id": "abc-123" } });
    expect(kept.headers.get("x-request-id")).toBe("abc-123");
    expect((await send("/gone", { headers: { "x-request-id": "a b\tc" } })).headers.get("x-request-id")).toMatch(
      /^[0-9a-f-]{36}$/,
    );
    const traceId = "0af7651916cd43dd8448eb211c80319c";
    const { traceparent } = await json(
      await send("/trace", { headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` } }),
    );
    expect(traceparent).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
    expect(traceparent).not.toMatch("b7ad6b7169203331");
    expect((await json(await send("/trace", { headers: { traceparent: "00-0-0-01" } }))).traceparent).toMatch(
      /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/,
    );
  });

  it("labels its metrics by pattern, never by path", async () => {
    await send("/things/deadbeef");
    await send("/nowhere/deadbeef");
    const text = await metrics.registry.metrics();
    expect(text).toMatch(
      /quartet_http_request_duration_seconds_count\{service="test",method="GET",route="\/things\/:id",status="400"\}/,
    );
    expect(text).toMatch(/route="unmatched",status="404"/);
    expect(text).not.toMatch("deadbeef");
  });
});

describe("identity", () => {
  const as = async (path: string, identity: Identity | string, init: RequestInit = {}) =>
    send(path, {
      ...init,
      headers: {
        "Quartet-Identity": typeof identity === "string" ? identity : signAs(identity, "search"),
      },
    });
  const ann = { kind: "user", userId: "ann", sessionId: "s1" } as const;

  it("passes who may, and nobody else", async () => {
    const remove = { method: "DELETE" };
    expect((await as("/things/ann", ann, remove)).status).toBe(200);
    expect((await as("/things/ann", { kind: "operator" }, remove)).status).toBe(200);
    expect((await as("/things/bob", ann, remove)).status).toBe(403);
    expect((await as("/things/ann", { kind: "service", name: "user" }, remove)).status).toBe(403);
    const anonymous = await send("/things/ann", remove);
    expect([anonymous.status, anonymous.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
    expect([(await as("/operator", ann)).status, (await as("/operator", { kind: "operator" })).status]).toEqual([
      403, 200,
    ]);
    expect(await json(await as("/service", { kind: "service", name: "user" }))).toEqual({ caller: "user" });
    expect((await as("/service", { kind: "operator" })).status).toBe(403);
    expect((await as("/service", { kind: "service", name: "session" })).status).toBe(403);
  });

  it("refuses what is no identity for it", async () => {
    const good = signAs({ kind: "operator" }, "search");
    expect((await as("/operator", good)).status).toBe(200);
    for (const bad of [signAs({ kind: "operator" }, "user"), "x", "..", `${good}x`])
      expect((await as("/operator", bad)).status).toBe(401);
  });
});

describe("freshness", () => {
  const token = Buffer.from("{}").toString("base64url");
  it("reads Prefer as RFC 7240 writes it", () => {
    const cases: [string | undefined, number][] = [
      [undefined, 0],
      ["wait=2", 2],
      ["WAIT=2", 2],
      ["respond-async, wait=3; x=y", 3],
      ['foo="a, wait=9", wait=1', 1],
      ['wait="4"', 4],
      ["wait=99", 10],
      ["wait=-1", 0],
      ["wait=x", 0],
      ["waiting=5", 0],
      ["wait", 0],
      ["wait=1, wait=5", 1],
      ["wait = 2", 2],
      ["wait=1e9", 0],
    ];
    for (const [text, seconds] of cases) expect([text, parseWait(text)]).toEqual([text, seconds]);
  });

  it("waits until it is there, or says that it is not", async () => {
    const fresh = await send("/fresh?after=3", { headers: { "consistency-token": token, prefer: "wait=2" } });
    expect([fresh.headers.get("preference-applied"), fresh.headers.get("quartet-freshness")]).toEqual(["wait", null]);
    expect(await json(fresh)).toEqual({ waitMs: 2000, looks: 4 });
    const stale = await send("/fresh?after=3", { headers: { "consistency-token": token } });
    expect([stale.headers.get("preference-applied"), stale.headers.get("quartet-freshness")]).toEqual([null, "stale"]);
    expect(stale.headers.get("quartet-as-of")).toBe("1970-01-01T00:00:00.000Z");
    // Asked again, the store hangs: what there is comes when the wait is over.
    const hung = await send("/fresh?after=9&hangs=1", { headers: { "consistency-token": token, prefer: "wait=1" } });
    expect([hung.status, hung.headers.get("quartet-freshness")]).toEqual([200, "stale"]);
  });
});

it("a problem may carry several fields", () => {
  const problem = badRequest([
    { path: "a", message: "is needed" },
    { path: "b", message: "is long" },
  ]);
  expect(problem.toJSON("/x")).toMatchObject({
    title: "Bad Request",
    detail: "a: is needed; b: is long",
    instance: "/x",
  });
});
