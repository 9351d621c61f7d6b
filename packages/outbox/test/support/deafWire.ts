import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";

export interface DeafWire {
  /** The same connection string, by way of this wire. */
  url: string;
  close(): void;
}

/**
 * A way to a server on which the client never hears that the server has hung up, as when a network loses the last packets: whoever was frozen while
 * its session was taken away learns of it only by what it is told, or refused, elsewhere.
 */
export async function deafWire(url: string): Promise<DeafWire> {
  const { hostname, port } = new URL(url);
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect({ host: hostname, port: Number(port) });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    }
    client.pipe(upstream);
    upstream.pipe(client, { end: false });
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const through = new URL(url);
  through.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: through.toString(),
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
