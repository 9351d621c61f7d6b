import { createServer, type Server } from "node:http";
import { type AddressInfo, createServer as createTcp } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import {
  commonConfig,
  createDependency,
  createLogger,
  createPeer,
  type HttpProblem,
  metrics,
  parseConfig,
  superviseWorker,
} from "../src/index.ts";
import { identityOfTests, keyringOf } from "../src/testing.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const undo of cleanup.splice(0).reverse()) await undo();
});

async function serve(server: Server | ReturnType<typeof createTcp>, port = 0): Promise<number> {
  await new Promise<void>((done) => server.listen(port, "127.0.0.1", done));
  return (server.address() as AddressInfo).port;
}
const caught = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error) => error as HttpProblem,
  );

describe("dependency", () => {
  it("turns the deadline and faults into 503, opens, turns away at once, and closes by one probe", async () => {
    const store = createDependency("store", {
      timeoutMs: 50,
      isFault: (e) => (e as Error).message === "dead",
      resetMs: 100,
    });
    cleanup.push(() => store.close());
    let aborted = false;
    const frozen = await caught(
      store.run((signal) => new Promise(() => signal.addEventListener("abort", () => (aborted = true)))),
    );
    expect(frozen).toMatchObject({ status: 503, dependency: "store", headers: { "Retry-After": "1" } });
    expect(aborted).toBe(true);
    const dead = () => store.run(() => Promise.reject(new Error("dead")));
    for (let i = 0; i < 5; i++) expect(await caught(dead())).toMatchObject({ status: 503 });
    expect(store.state).toBe("open");
    let calls = 0;
    const alive = async () => ++calls;
    expect(await caught(store.run(alive))).toMatchObject({ status: 503 });
    expect(calls).toBe(0);
    await vi.waitFor(() => expect(store.state).toBe("half-open"), { timeout: 5000, interval: 10 });
    await caught(dead());
    expect(store.state).toBe("open");
    await vi.waitFor(async () => expect(await store.run(alive)).toBe(1), { timeout: 5000, interval: 20 });
    expect(store.state).toBe("closed");
    expect(await metrics.registry.metrics()).toMatch(
      /quartet_dependency_errors_total\{dependency="store",reason="open"\} [1-9]/,
    );
  });

  it("does not open because of answers that are errors", async () => {
    const store = createDependency("answers", { timeoutMs: 1000, isFault: () => false });
    cleanup.push(() => store.close());
    for (let i = 0; i < 20; i++)
      await expect(store.run(() => Promise.reject(new Error("duplicate key")))).rejects.toThrow("duplicate key");
    expect(store.state).toBe("closed");
    await expect(
      store.run(() => {
        throw new Error("thrown, not rejected");
      }),
    ).rejects.toThrow("thrown");
  });
});

describe("peer", () => {
  const peerOf = (port: number, timeoutMs = 300) => {
    const peer = createPeer({
      keyring: keyringOf("gateway"),
      name: "user",
      url: `http://127.0.0.1:${port}/base`,
      timeoutMs,
    });
    cleanup.push(() => peer.close());
    return peer;
  };

  it("sends identity, ids and JSON, and gives back any status", async () => {
    const server = createServer(async (req, res) => {
      let body = "";
      for await (const chunk of req) body += chunk;
      const identity = keyringOf("user").verify(String(req.headers["quartet-identity"]));
      res.writeHead(418, { "content-type": "application/json" }).end(
        JSON.stringify({
          url: req.url,
          identity,
          body,
          id: req.headers["x-request-id"],
          tp: req.headers.traceparent,
        }),
      );
    });
    cleanup.push(() => server.close());
    const peer = peerOf(await serve(server));
    const own = await peer.request("POST", "/x?y=1", { body: { a: "é" }, requestId: "r1" });
    expect(own).toMatchObject({
      status: 418,
      body: {
        url: "/base/x?y=1",
        identity: { kind: "service", name: "gateway" },
        body: '{"a":"é"}',
        id: "r1",
        tp: expect.stringMatching(/^00-/),
      },
    });
    const user = { kind: "user", userId: "u", sessionId: "s" } as const;
    expect((await peer.request("GET", "/", { identity: user })).body).toMatchObject({ identity: user });
    expect((await peer.request("GET", "/", { identity: null })).body).not.toHaveProperty("identity");
  });

  it("survives a restart of the peer without an error for what may be repeated", async () => {
    const make = () => createServer((_req, res) => res.end("ok"));
    let server = make();
    const port = await serve(server);
    const peer = peerOf(port, 2000);
    for (let round = 0; round < 5; round++) {
      await Promise.all(Array.from({ length: 8 }, () => peer.request("GET", "/")));
      await new Promise((done) => {
        server.close(done);
        server.closeAllConnections();
      });
      server = make();
      await serve(server, port);
    }
    expect((await peer.request("GET", "/")).status).toBe(200);
    server.close();
  });

  it("tries again whoever refused the connection, a write too: nothing was sent", async () => {
    const server = createServer((_req, res) => res.end("ok"));
    const port = await serve(server);
    const peer = peerOf(port, 2000);
    await new Promise((done) => server.close(done));
    const refused = await caught(peer.request("POST", "/", { body: {} }));
    expect(refused).toMatchObject({ status: 503 });
    await serve(server, port);
    cleanup.push(() => server.close());
    expect((await peer.request("POST", "/", { body: {} })).body).toBe("ok");
  });

  it("sends again what met a reset, if it may be repeated", async () => {
    let connections = 0;
    const server = createTcp((socket) => {
      connections++;
      socket.on("error", () => {});
      socket.once("data", () =>
        connections === 1 || connections > 2
          ? socket.destroy()
          : socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"),
      );
    });
    cleanup.push(() => server.close());
    const peer = peerOf(await serve(server), 2000);
    expect((await peer.request("GET", "/")).body).toBe("ok");
    expect(connections).toBe(2);
    expect(await caught(peer.request("POST", "/", { body: {} }))).toMatchObject({ status: 503 });
    expect(connections).toBe(3);
  });

  it("a frozen peer and a dead one are 503, and soon at once", async () => {
    const frozen = createTcp((socket) => socket.on("error", () => {}));
    const port = await serve(frozen);
    const peer = peerOf(port, 100);
    expect(await caught(peer.request("GET", "/"))).toMatchObject({ status: 503, dependency: "user" });
    frozen.close();
    for (let i = 0; i < 6; i++) expect(await caught(peer.request("GET", "/"))).toMatchObject({ status: 503 });
    expect(peer.state).toBe("open");
  });
});

describe("worker", () => {
  it("starts a crashed loop again, and stops", async () => {
    let runs = 0;
    const worker = superviseWorker(
      "loop",
      async (signal) => {
        if (++runs < 4) throw new Error("crash");
        await new Promise((done) => signal.addEventListener("abort", done));
      },
      { logger: createLogger("test", "silent"), backoff: { initialMs: 5, maxMs: 20 } },
    );
    await vi.waitFor(() => expect([runs, worker.running]).toEqual([4, true]), { timeout: 5000 });
    await worker.stop();
    expect([runs, worker.running]).toEqual([4, false]);
  });
});

it("a bad variable is named, its value is not shown", () => {
  const schema = z.object({ ...commonConfig(8081), POSTGRES_URL: z.string() });
  const keys = identityOfTests("user");
  expect(() => parseConfig(schema, { ...keys, IDENTITY_KEYS: "short", PORT: "x", ROLE: "" })).toThrow(
    /PORT: [^\n]*\nIDENTITY_KEYS: is not valid JSON\nPOSTGRES_URL is not set$/,
  );
  expect(parseConfig(schema, { ...keys, POSTGRES_URL: "x" })).toMatchObject({
    PORT: 8081,
    HOST: "127.0.0.1",
    ROLE: "all",
  });
});
