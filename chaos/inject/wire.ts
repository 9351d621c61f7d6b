import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

interface Pair {
  near: Socket;
  far: Socket;
  /** One for each direction: sends what waits in it, now. */
  flush: (() => void)[];
}

/**
 * A TCP connection that can be cut and slowed: stands between the services and one store. (Toxiproxy does this and more, but is a Go program that
 * would have to be fetched and supervised; what is needed here is little.) It never loses, doubles or reorders a byte: TCP would not either, and
 * the answer to one question would be taken for the answer to another.
 */
export class Wire {
  readonly #target: () => { host: string; port: number } | undefined;
  readonly #pairs = new Set<Pair>();
  readonly #server: Server;
  #cut = false;
  #delayMs = 0;

  /** `target` is asked at each connection: a store may come back elsewhere. */
  constructor(target: () => { host: string; port: number } | undefined) {
    this.#target = target;
    this.#server = createServer({ allowHalfOpen: true }, (near) => this.#accept(near));
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
    const far = connect({ ...target, allowHalfOpen: true });
    far.setNoDelay(true);
    const pair: Pair = { near, far, flush: [] };
    this.#pairs.add(pair);
    const close = (): void => {
      this.#pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) socket.on("error", close).on("close", close);
    pair.flush.push(this.#carry(near, far), this.#carry(far, near));
    if (this.#cut) this.#pause(pair, true);
  }

  /** Carries one direction in its order: what is new waits behind what was slowed or held up by a cut. `null` is the end. */
  #carry(from: Socket, to: Socket): () => void {
    const waiting: { chunk: Buffer | null; due: number }[] = [];
    let timer: NodeJS.Timeout | undefined;
    const send = (chunk: Buffer | null): void => {
      if (to.destroyed) return;
      if (chunk === null) return void to.end();
      if (to.write(chunk) || from.isPaused()) return;
      from.pause();
      to.once("drain", () => this.#cut || from.resume());
    };
    const flush = (): void => {
      clearTimeout(timer);
      // What was on its way when the wire was cut arrives after it is mended, as TCP would send it again.
      if (this.#cut) return;
      while (waiting[0] && (this.#delayMs === 0 || waiting[0].due <= performance.now())) send(waiting.shift()!.chunk);
      if (waiting[0]) timer = setTimeout(flush, waiting[0].due - performance.now());
    };
    const enqueue = (chunk: Buffer | null): void => {
      waiting.push({ chunk, due: performance.now() + this.#delayMs });
      flush();
    };
    from.on("data", enqueue);
    from.on("end", () => enqueue(null));
    from.on("close", () => clearTimeout(timer));
    return flush;
  }

  #pause({ near, far }: Pair, paused: boolean): void {
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
    for (const pair of this.#pairs) {
      for (const flush of pair.flush) flush();
      this.#pause(pair, false);
    }
  }

  close(): void {
    this.#server.close();
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
  }
}
