import { rebuildable, rebuildBody } from "@quartet/contracts";
import { notFound, parseBody } from "@quartet/service";
import type { Express, Request } from "express";
import { requireOperator } from "./authenticate.ts";
import { budgetMs, type GatewayContext, type ServiceName } from "./peers.ts";
import { sendAnswer } from "./proxy.ts";

/** Asks several services the same thing at once. `silent`: those that did not give the answer. */
export async function askEach<A, N extends ServiceName = ServiceName>(
  { peers }: GatewayContext,
  req: Request,
  names: readonly N[],
  method: string,
  path: string,
): Promise<{ answers: A[]; silent: N[] }> {
  const answers: A[] = [];
  const silent: N[] = [];
  const ask = async (name: N): Promise<void> => {
    try {
      const answer = await peers[name].request(method, path, {
        for: req,
        timeoutMs: budgetMs - 300,
      });
      if (answer.status >= 300) silent.push(name);
      else answers.push(answer.body as A);
    } catch {
      silent.push(name);
    }
  };
  await Promise.all(names.map(ask));
  return { answers, silent };
}

/** `/v1/admin/rebuilds`: the derived stores filled anew from the log, each by its own service; for the operator. */
export function addRebuilds(app: Express, context: GatewayContext): void {
  const { peers, authenticate } = context;

  app.get("/v1/admin/rebuilds", async (req, res) => {
    await requireOperator(authenticate, req);
    const { answers, silent } = await askEach(context, req, rebuildable.options, "GET", "/internal/rebuild");
    res.setHeader("Cache-Control", "no-store");
    res.json({ rebuilds: answers, missing: silent });
  });

  app.post("/v1/admin/rebuilds", async (req, res) => {
    await requireOperator(authenticate, req);
    const { store } = parseBody(rebuildBody, req);
    const answer = await peers[store].forward("POST", "/internal/rebuild", { for: req });
    if (answer.status === 202) res.setHeader("Location", `/v1/admin/rebuilds/${store}`);
    sendAnswer(req, res, answer);
  });

  app.get("/v1/admin/rebuilds/:store", async (req, res) => {
    await requireOperator(authenticate, req);
    const store = rebuildable.safeParse(req.params.store).data;
    if (!store) throw notFound("there is no such derived store");
    sendAnswer(req, res, await peers[store].forward("GET", "/internal/rebuild", { for: req }));
  });
}
