import { createServer, request, type Server } from "node:http";

/** Several processes of one service behind one port, as a Kubernetes Service is: requests take turns; one that leaves is drained first. */
export class Balancer {
  readonly #backends = new Map<string, { inFlight: number; served: number; leaving: boolean }>();
  readonly #server: Server;
  #turn = 0;

  constructor() {
    this.#server = createServer((req, res) => {
      const active = [...this.#backends].filter(([, b]) => !b.leaving);
      const chosen = active[this.#turn++ % active.length];
      if (!chosen) return void res.writeHead(503).end();
      const [url, backend] = chosen;
      backend.inFlight++;
      backend.served++;
      res.once("close", () => backend.inFlight--);
      const { hostname, port } = new URL(url);
      const headers = { ...req.headers, connection: "close" };
      const onward = request({ hostname, port, method: req.method, path: req.url, headers }, (answer) => {
        const { connection: _, ...kept } = answer.headers;
        res.writeHead(answer.statusCode ?? 502, kept);
        answer.pipe(res);
      });
      onward.on("error", () => (res.headersSent ? res.destroy() : res.writeHead(502).end()));
      req.pipe(onward);
    });
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>((done, fail) => {
      this.#server.once("error", fail);
      this.#server.listen(port, "127.0.0.1", done);
    });
  }

  add(url: string): void {
    this.#backends.set(url, { inFlight: 0, served: 0, leaving: false });
  }

  served(url: string): number {
    return this.#backends.get(url)?.served ?? 0;
  }

  /** Sends nothing more there, and returns once all that was sent is answered. */
  async remove(url: string): Promise<void> {
    const backend = this.#backends.get(url);
    if (!backend) return;
    backend.leaving = true;
    while (backend.inFlight > 0) await new Promise((done) => setTimeout(done, 10));
    this.#backends.delete(url);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }
}
