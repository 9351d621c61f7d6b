import { badRequest } from "@quartet/service";
import type { Express, Request, Response } from "express";
import { requireOperator } from "./authenticate.ts";
import type { GatewayContext } from "./peers.ts";
import { sendAnswer } from "./proxy.ts";

/** `/v1/admin/dead`: the parked messages, which User keeps the stream of; for the operator. */
export function addDeadLetters(app: Express, { peers, authenticate }: GatewayContext): void {
  const forward = (pathOf: (req: Request) => string) => async (req: Request, res: Response) => {
    await requireOperator(authenticate, req);
    sendAnswer(
      req,
      res,
      await peers.user.forward(req.method, pathOf(req), {
        for: req,
        idempotent: req.method === "GET",
      }),
    );
  };
  const one = (req: Request): string => {
    const seq = String(req.params.seq);
    if (!/^[1-9]\d{0,14}$/.test(seq)) throw badRequest({ path: "seq", message: "must be a sequence number" });
    return `/internal/dead/${seq}`;
  };
  app.get(
    "/v1/admin/dead",
    forward((req) => `/internal/dead${req.url.includes("?") ? req.url.slice(req.url.indexOf("?")) : ""}`),
  );
  app.get("/v1/admin/dead/:seq", forward(one));
  app.delete("/v1/admin/dead/:seq", forward(one));
  app.post(
    "/v1/admin/dead/:seq/retry",
    forward((req) => `${one(req)}/retry`),
  );
}
