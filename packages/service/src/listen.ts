import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface Listening {
  server: Server;
  host: string;
  port: number;
  /** `http://host:port` */
  url: string;
  /**
   * From now on every answer closes its connection. Resolves after `ms`: those who keep connections for less than that hold none any more, and new
   * requests went elsewhere, where there is an elsewhere. A request that meets a closing connection may not be sent again if it is a write; so none does.
   */
  drain(ms: number): Promise<void>;
  /** Stops accepting, lets what is in flight finish for at most `graceMs` (10 s), then cuts the rest. */
  close(graceMs?: number): Promise<void>;
}

/**
 * Serves `handler` on `host:port` (0 picks a free one). A request must have arrived whole within 30 s. Idle connections are kept 75 s, longer
 * than any client of ours keeps them, so that no client sends into a connection the server is just closing. Rejects if the port is taken.
 */
export function listen(handler: RequestListener, options: { host: string; port: number }): Promise<Listening> {
  let draining = false;
  let closing = false;
  const server = createServer({
    requestTimeout: 30_000,
    headersTimeout: 15_000,
    keepAliveTimeout: 75_000,
    connectionsCheckingInterval: 5_000,
    maxHeaderSize: 32 * 1024,
  });
  server.on("request", (req, res) => {
    if (draining || closing) res.setHeader("Connection", "close");
    else res.once("close", () => closing && server.closeIdleConnections());
    handler(req, res);
  });
  server.on("clientError", refuse);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, () => {
      server.off("error", reject);
      const { port } = server.address() as AddressInfo;
      const close = async (graceMs = 10_000): Promise<void> => {
        closing = true;
        const closed = new Promise<void>((done) => server.close(() => done()));
        server.closeIdleConnections();
        // a connection becomes idle after its answer is flushed, which has no event of its own
        const sweep = setInterval(() => server.closeIdleConnections(), 50);
        const cut = setTimeout(() => server.closeAllConnections(), graceMs);
        await closed;
        clearInterval(sweep);
        clearTimeout(cut);
      };
      const drain = async (ms: number): Promise<void> => {
        draining = true;
        await sleep(ms);
      };
      resolve({
        server,
        host: options.host,
        port,
        url: `http://${options.host.includes(":") ? `[${options.host}]` : options.host}:${port}`,
        drain,
        close,
      });
    });
  });
}

/** What is not HTTP at all, or too large in its head, gets a problem too. */
function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  const [status, title] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? [431, "Request Header Fields Too Large"]
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? [408, "Request Timeout"]
        : [400, "Bad Request"];
  const slug = String(title).toLowerCase().replaceAll(" ", "-");
  const body = JSON.stringify({ type: `urn:quartet:problem:${slug}`, title, status, detail: title });
  socket.end(
    `HTTP/1.1 ${status} ${title}\r\nContent-Type: application/problem+json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
