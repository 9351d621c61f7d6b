import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/** Whether nothing listens on that loopback port now. */
export function isPortFree(port: number, host = "127.0.0.1"): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/**
 * A free loopback port: `preferred` if it is free, else a random one below the range from which systems take the source ports of
 * outgoing connections, so that a killed server finds its port still free.
 */
export async function choosePort(preferred?: number): Promise<number> {
  if (preferred !== undefined && (await isPortFree(preferred))) return preferred;
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = randomInt(12_000, 32_000);
    if (await isPortFree(port)) return port;
  }
  throw new Error("no free port between 12000 and 32000");
}
