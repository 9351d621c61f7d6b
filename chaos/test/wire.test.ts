import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Wire } from "../inject/wire.ts";

const LINES = 3000;

describe("the wire between the services and a store", () => {
  let echo: Server;
  let wire: Wire;
  let socket: Socket;
  let got: string;

  beforeEach(async () => {
    echo = createServer((peer) => peer.on("error", () => {}).pipe(peer)).listen(0, "127.0.0.1");
    await once(echo, "listening");
    wire = new Wire(() => ({ host: "127.0.0.1", port: (echo.address() as { port: number }).port }));
    socket = connect(await wire.listen(), "127.0.0.1").setNoDelay(true);
    got = "";
    socket.on("data", (chunk) => {
      got += chunk;
    });
    await once(socket, "connect");
  });

  afterEach(() => {
    socket.destroy();
    wire.close();
    echo.close();
  });

  /** Sends numbered lines, each its own packet, and does something to the wire on the way. */
  async function send(meanwhile: Record<number, () => void>): Promise<string[]> {
    for (let line = 0; line < LINES; line++) {
      meanwhile[line]?.();
      socket.write(`${line}\n`);
      await new Promise(setImmediate);
    }
    socket.end();
    await once(socket, "close");
    return got.trimEnd().split("\n");
  }
  const inOrder = Array.from({ length: LINES }, (_, line) => String(line));

  test("keeps the order of the bytes when it is slowed and then mended", async () => {
    const faults = {
      500: () => wire.slow(80),
      1500: () => wire.mend(),
      2000: () => wire.slow(20),
      2500: () => wire.mend(),
    };
    expect(await send(faults)).toEqual(inOrder);
  });

  test("keeps it when it is cut while it is slow", async () => {
    expect(await send({ 300: () => wire.slow(30), 900: () => wire.cut(), 1800: () => wire.mend() })).toEqual(inOrder);
  });

  test("carries nothing while it is cut", async () => {
    wire.cut();
    socket.write("before");
    const fresh = connect(socket.remotePort!, "127.0.0.1").on("error", () => {});
    await once(fresh, "connect");
    fresh.write("fresh");
    const heard = once(fresh, "data");
    // Time enough for both, by the clock of the very thing they are cut off from.
    const uncut = connect((echo.address() as { port: number }).port, "127.0.0.1").setNoDelay(true);
    for (let i = 0; i < 50; i++) {
      uncut.write(".");
      await once(uncut, "data");
    }
    uncut.destroy();
    expect(got).toBe("");
    wire.mend();
    if (got === "") await once(socket, "data");
    expect(got).toBe("before");
    expect(String((await heard)[0])).toBe("fresh");
    fresh.destroy();
  });
});
