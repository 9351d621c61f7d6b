import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/**
 * A TCP connection that can be cut and slowed: stands between the services and one store. (Toxiproxy does this and more, but is a Go program that
 * would have to be fetched and supervised; what is needed here is forty lines.)
 */
export class Wire {
  readonly #target: () => { host: string; port: number } | undefined;
  readonly #pairs = new Set<{ near: Socket; far: Socket }>();
  readonly #server: Server;
  #cut = false;
  #delayMs = 0;

  /** `target` is asked at each connection: a store may come back elsewhere. */
  constructor(target: () => { host: string; port: number } | undefined) {
    this.#target = target;
    this.#server = createServer({ pauseOnConnect: false }, (near) => this.#accept(near));
  }

  /** Listens on a loopback port and returns it. */
  async listen(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as { port: number }).port;
  }

  #accept(near: Socket): void {
    const target = this.#target();
    if (!target) return void near.destroy();
    near.setNoDelay(true);
    const far = connect(target);
    far.setNoDelay(true);
    const pair = { near, far };
    this.#pairs.add(pair);
    const close = (): void => {
      this.#pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) socket.on("error", close).on("close", close);
    this.#carry(near, far);
    this.#carry(far, near);
    if (this.#cut) this.#pause(pair, true);
  }

  #carry(from: Socket, to: Socket): void {
    from.on("data", (chunk) => {
      const send = (): void => {
        // What was on its way when the wire was cut arrives after it is mended, as TCP would send it again.
        if (this.#cut) setTimeout(send, 50);
        else if (!to.destroyed && !to.write(chunk)) {
          from.pause();
          to.once("drain", () => this.#cut || from.resume());
        }
      };
      // Timers of one length fire in the order they were set: the bytes keep theirs.
      if (this.#delayMs > 0) setTimeout(send, this.#delayMs);
      else send();
    });
  }

  #pause({ near, far }: { near: Socket; far: Socket }, paused: boolean): void {
    for (const socket of [near, far]) paused ? socket.pause() : socket.resume();
  }

  /** Nothing gets through; connections stay open, new ones open and stay silent. */
  cut(): void {
    this.#cut = true;
    for (const pair of this.#pairs) this.#pause(pair, true);
  }

  slow(ms: number): void {
    this.#delayMs = ms;
  }

  mend(): void {
    this.#cut = false;
    this.#delayMs = 0;
    for (const pair of this.#pairs) this.#pause(pair, false);
  }

  close(): void {
    this.#server.close();
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
  }
}
