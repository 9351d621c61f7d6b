import { HttpProblem, parseBody, parseParams, unavailable } from "@quartet/service";
import type { Express, Request, Response } from "express";
import { z } from "zod";
import type { GatewayConfig } from "../config.ts";
import type { Peers } from "../http/peers.ts";
import { type Control, connectControl } from "./control.ts";
import type { Guard } from "./guard.ts";
import { type Message, Watch } from "./watch.ts";

const mostWatchers = 50;
const heartbeatMs = 15_000;
/** A console that reads so slowly that this many bytes wait for it is cut off; it comes back by itself. */
const mostUnreadBytes = 1024 * 1024;

const engine = z.object({
  name: z.enum(["postgres", "redis", "clickhouse", "elasticsearch", "nats"]),
  action: z.enum(["kill", "freeze", "revive"]),
});
const seed = z.strictObject({ users: z.number().int().min(1).max(1000) });
const load = z.strictObject({
  perSecond: z.number().int().min(1).max(300),
  seconds: z.number().int().min(1).max(300),
});

/**
 * What the page at `/` asks for beyond the API. `GET /v1/console` says what this console may do; `GET /v1/console/stream` is one stream of server-sent
 * events (`history`, then `tick` once a second and `flow` whenever something moved); the rest are actions of a local system, which its supervisor
 * carries out. Returns what ends the open streams, for a shutdown that need not wait for those who watch.
 */
export function addConsole(
  app: Express,
  { config, peers, guard }: { config: GatewayConfig; peers: Peers; guard: Guard | undefined },
): () => void {
  const control = connectControl(config);
  const watch = new Watch(peers, control);
  const open = new Set<Response>();
  let ending = false;

  app.get("/v1/console", (_req: Request, res: Response) => {
    res.setHeader("Cache-Control", "no-store");
    res.json({ console: config.QUARTET_CONSOLE, local: control !== undefined });
  });

  app.get("/v1/console/stream", (req: Request, res: Response) => {
    on(guard).watch(req);
    if (ending) throw unavailable("gateway", 1);
    if (watch.watchers >= mostWatchers) throw new HttpProblem(503, { detail: "too many consoles are open" });
    res.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no" });
    open.add(res);
    const send = ({ event, data }: Message): void => {
      if (res.writableLength > mostUnreadBytes) return void res.destroy();
      res.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    };
    const leave = watch.watch(send);
    const alive = setInterval(() => res.write(":\n\n"), heartbeatMs);
    res.once("close", () => {
      clearInterval(alive);
      leave();
      open.delete(res);
    });
  });

  const act =
    (path: string, order: (control: Control, req: Request) => Promise<unknown>) =>
    async (req: Request, res: Response): Promise<void> => {
      on(guard).act(req);
      if (!control) throw new HttpProblem(404, { detail: `${path} is for a local system` });
      res.setHeader("Cache-Control", "no-store");
      res.status(202).json(await order(control, req));
    };
  const add = (method: "post" | "delete", path: string, order: (control: Control, req: Request) => Promise<unknown>) =>
    app[method](path, act(path, order));
  add("post", "/v1/console/engines/:name/:action", (to, req) => {
    const { name, action } = parseParams(engine, req);
    return to.order("POST", `/engines/${name}/${action}`);
  });
  add("post", "/v1/console/seed", (to, req) => to.order("POST", "/seed", parseBody(seed, req)));
  add("post", "/v1/console/load", (to, req) => to.order("POST", "/load", parseBody(load, req)));
  add("delete", "/v1/console/load", (to) => to.order("DELETE", "/load"));

  return () => {
    ending = true;
    for (const res of open) res.end();
  };
}

function on(guard: Guard | undefined): Guard {
  if (!guard) throw new HttpProblem(404, { detail: "the console is switched off here (QUARTET_CONSOLE)" });
  return guard;
}
