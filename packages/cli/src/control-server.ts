import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { freeze, kill, type PartState, revive, stateOf } from "./control.ts";
import type { Demo } from "./demo.ts";

/** Where the gateway reaches this supervisor, and what it has to say. */
export interface ControlAddress {
  url: string;
  secret: string;
}

export interface ControlServerOptions {
  home: string;
  /** The engines that run here, asked at every call. */
  engines: () => string[];
  /** All engines; those that are not ours are `external`. */
  all: readonly string[];
  demo: Demo;
}

/** A mistake in an order: its message is the answer. */
class BadOrder extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/**
 * The orders of the console, taken on a free port of this machine's loopback, with a secret of this run that only the gateway is given: a gateway
 * must not end the processes it stands beside, so it asks who started them. `GET /state`, `POST /engines/<name>/kill|freeze|revive`, `POST /seed`,
 * `POST /load`, `DELETE /load`.
 */
export async function startControlServer(
  options: ControlServerOptions,
): Promise<ControlAddress & { close: () => void }> {
  const secret = randomBytes(32).toString("base64url");
  const server = createServer((req, res) => {
    answer(options, secret, req)
      .then((body) => send(res, 200, body))
      .catch((error: unknown) => {
        const status = error instanceof BadOrder ? error.status : 500;
        send(res, status, { error: error instanceof Error ? error.message : String(error) });
      });
  });
  await new Promise<void>((listening, fail) => {
    server.once("error", fail);
    server.listen(0, "127.0.0.1", listening);
  });
  server.unref();
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    secret,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(options: ControlServerOptions, secret: string, req: IncomingMessage): Promise<object> {
  const given = Buffer.from(String(req.headers.authorization ?? ""));
  const wanted = Buffer.from(`Bearer ${secret}`);
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) throw new BadOrder(401, "not for you");
  const { home, demo } = options;
  const [, noun, name, action] = (req.url ?? "").split("/");
  const order = `${req.method} ${noun}`;
  if (order === "GET state") {
    const mine = options.engines();
    const state = (engine: string): PartState | "external" =>
      mine.includes(engine) ? stateOf(home, engine) : "external";
    return { engines: Object.fromEntries(options.all.map((engine) => [engine, state(engine)])), ...demo.state() };
  }
  if (order === "POST engines" && name !== undefined) {
    if (!options.engines().includes(name))
      throw new BadOrder(409, `${name} was brought from outside: it is not ours to stop`);
    if (action === "kill") await kill(home, name, { hold: true });
    else if (action === "freeze") freeze(home, name);
    else if (action === "revive") revive(home, name);
    else throw new BadOrder(400, `there is no ${action}`);
    return { engine: name, state: stateOf(home, name) };
  }
  if (order === "POST seed") return demo.seed(number((await body(req)).users, 1000));
  if (order === "POST load") {
    const { perSecond, seconds } = await body(req);
    return demo.start(number(perSecond, 300), number(seconds, 300));
  }
  if (order === "DELETE load") return demo.stop();
  throw new BadOrder(404, "there is no such order");
}

async function body(req: IncomingMessage): Promise<Record<string, unknown>> {
  let text = "";
  for await (const chunk of req) text += chunk;
  return JSON.parse(text || "{}") as Record<string, unknown>;
}

function number(value: unknown, most: number): number {
  if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > most) {
    throw new BadOrder(400, `must be a whole number from 1 to ${most}`);
  }
  return value as number;
}

function send(res: ServerResponse, status: number, body: object): void {
  res.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}
