import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
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
    maxHeaderSize: 16 * 1024,
    // Without a Host it is refused like all else that is no good request, and not with an empty answer.
    requireHostHeader: false,
  });
  server.on("request", (req, res) => {
    if (!req.headers.host && req.httpVersion === "1.1") return refuse({ code: "NO_HOST" }, req.socket);
    if (draining || closing) res.setHeader("Connection", "close");
    else res.once("close", () => closing && server.closeIdleConnections());
    handler(req, res);
  });
  server.on("clientError", refuse);
  server.on("connect", (_req, socket) => refuse({ code: "CONNECT" }, socket));
  server.on("checkExpectation", (req: IncomingMessage) => refuse({ code: "EXPECTATION" }, req.socket));
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

const REFUSALS: Record<string, [status: number, title: string, detail?: string, headers?: object]> = {
  HPE_HEADER_OVERFLOW: [431, "Request Header Fields Too Large"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "Request Timeout"],
  EXPECTATION: [417, "Expectation Failed", "Expect may only ask for 100-continue"],
  CONNECT: [405, "Method Not Allowed", "this is no proxy", { Allow: "" }],
  NO_HOST: [400, "Bad Request", "HTTP/1.1 needs a Host"],
};

/** What is not HTTP at all, or too large in its head, gets a problem too. */
function refuse(error: { code?: string }, socket: Duplex): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  const [status, title, detail = title, more] = REFUSALS[error.code ?? ""] ?? [400, "Bad Request"];
  const id = randomUUID();
  const slug = title.toLowerCase().replaceAll(" ", "-");
  const type = `urn:quartet:problem:${slug}`;
  const body = JSON.stringify({ type, title, status, detail, instance: `urn:uuid:${id}` });
  const headers = {
    "Content-Type": "application/problem+json; charset=utf-8",
    "Content-Length": Buffer.byteLength(body),
    "X-Request-Id": id,
    Connection: "close",
    ...more,
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${title}\r\n${lines.join("")}\r\n${body}`);
}
