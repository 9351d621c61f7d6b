import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { fileURLToPath } from "node:url";
import type { Identity } from "@quartet/service";
import { identityOfTests, keyringOf } from "@quartet/service/testing";

export const operatorToken = "operator-token-of-the-tests";
export const ann = "019a0000-0000-7000-8000-00000000000a";
export const bob = "019a0000-0000-7000-8000-00000000000b";

export interface Seen {
  method: string;
  url: string;
  headers: IncomingMessage["headers"];
  body: string;
  identity: Identity | undefined;
}
type Handler = (seen: Seen, res: ServerResponse) => unknown;

/** A small real HTTP server in the place of a service: answers what a test tells it to, and can freeze or die. */
export class Upstream {
  readonly name: string;
  readonly seen: Seen[] = [];
  readonly #handlers = new Map<string, Handler>();
  readonly #sockets = new Set<Socket>();
  frozen = false;
  #server: Server | undefined;
  port = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** `on("GET /v1/users/:id", ...)`: the key is compared with method and path, the first matching wins; `*` ends a prefix. */
  on(key: string, handler: Handler): void {
    this.#handlers.set(key, handler);
  }

  reset(): void {
    this.#handlers.clear();
    this.seen.length = 0;
    this.frozen = false;
  }

  async start(): Promise<void> {
    this.#server = createServer(async (req, res) => {
      if (this.frozen) return;
      let body = "";
      for await (const chunk of req) body += chunk;
      const token = String(req.headers["quartet-identity"] ?? "");
      const seen = {
        method: req.method!,
        url: req.url!,
        headers: req.headers,
        body,
        identity: keyringOf(this.name as "user").verify(token),
      };
      this.seen.push(seen);
      const key = `${req.method} ${req.url!.split("?")[0]}`;
      const found = [...this.#handlers].find(([k]) => (k.endsWith("*") ? key.startsWith(k.slice(0, -1)) : k === key));
      if (found) await found[1](seen, res);
      else
        res
          .writeHead(404, { "content-type": "application/problem+json" })
          .end('{"status":404,"detail":"upstream 404"}');
    });
    this.#server.keepAliveTimeout = 60_000;
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    this.#server.listen(this.port, "127.0.0.1");
    await once(this.#server, "listening");
    this.port = (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    const closed = new Promise((done) => this.#server?.close(done));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

export const json = (
  res: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): unknown =>
  res.writeHead(status, { "content-type": "application/json; charset=utf-8", ...headers }).end(JSON.stringify(body));

/** The gateway as the process it is, on free ports. */
export async function startGateway(
  ports: Record<"user" | "session" | "analytics" | "search", number>,
  env: Record<string, string> = {},
) {
  const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));
  const url = (port: number): string => `http://127.0.0.1:${port}`;
  const child: ChildProcess = spawn(process.execPath, [main], {
    env: {
      PORT: "0",
      ...identityOfTests("gateway"),
      QUARTET_OPERATOR_TOKEN: operatorToken,
      USER_URL: url(ports.user),
      SESSION_URL: url(ports.session),
      ANALYTICS_URL: url(ports.analytics),
      SEARCH_URL: url(ports.search),
      ...env,
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let log = "";
  const exit = once(child, "close").then(([code]) => code as number);
  const listening = await new Promise<{ url: string; admin: string }>((resolve, reject) => {
    child.stdout!.on("data", (chunk) => {
      log += chunk;
      const line = log.split("\n").find((l) => l.includes('"listening"'));
      if (line) resolve(JSON.parse(line));
    });
    void exit.then((code) => reject(new Error(`the gateway ended with ${code}: ${log}`)));
  });
  return {
    ...listening,
    log: () => log,
    async stop(): Promise<number> {
      child.kill("SIGTERM");
      return exit;
    },
  };
}
