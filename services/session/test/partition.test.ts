import { connect, createServer, type Socket } from "node:net";
import { eventually, type ServiceProcess } from "@quartet/service/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createWorld, introspect, logIn, newPerson, type World } from "./world.ts";

/** A way to Redis whose present connections can be made to swallow everything, as when the host behind them vanished. */
async function createWay(port: number) {
  const open = new Set<[Socket, Socket]>();
  const server = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    const pair: [Socket, Socket] = [near, far];
    open.add(pair);
    for (const socket of pair) {
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(pair);
        for (const other of pair) other.destroy();
      });
    }
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    port: (server.address() as { port: number }).port,
    /** How many connections were swallowed. */
    swallow(): number {
      for (const [near, far] of open) {
        near.unpipe(far);
        far.unpipe(near);
        near.resume();
        far.resume();
      }
      return open.size;
    },
    async close() {
      for (const pair of open) for (const socket of pair) socket.destroy();
      await new Promise((done) => server.close(done));
    },
  };
}

let world: World;
let way: Awaited<ReturnType<typeof createWay>>;
let service: ServiceProcess;

beforeAll(async () => {
  world = await createWorld();
  await world.makeStreams();
  way = await createWay(world.redis.port);
  const url = new URL(world.redis.urlFor("session"));
  url.port = String(way.port);
  service = await world.start({ REDIS_URL: url.href.replace(/\/$/, "") });
  await eventually(() => service.ready(), { what: "readiness" });
});
afterAll(async () => {
  await world?.dispose();
  await way?.close();
});

test("a Redis that vanished without closing a connection is 503, and is found again where it is now", async () => {
  const p = newPerson();
  world.user.people.set(p.handle, p);
  const { token } = await logIn(service, p);
  expect(way.swallow()).toBeGreaterThan(0);
  const answer = await introspect(service, token);
  expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
  await eventually(async () => (await introspect(service, token)).status === 200, { what: "a new connection" });
  // The relay's connections too: what happens now is told.
  const { session } = await logIn(service, p);
  await eventually(async () => (await world.facts()).some((f) => f.id === `s:${session.id}:started`), {
    what: "the event",
  });
});
