import type { Express } from "express";
import { requireOperator } from "./authenticate.ts";
import type { GatewayContext } from "./peers.ts";
import { askEach } from "./rebuild.ts";

/** Who audits: User what Search and Session hold of its users, Analytics its facts. */
const AUDITORS = { user: ["search", "session"], analytics: ["analytics"] } as const;
type Auditor = keyof typeof AUDITORS;
const auditors = Object.keys(AUDITORS) as Auditor[];

/** `/v1/admin/audits`: what the last audit of each derived store found, and a request for another one; for the operator. */
export function addAudits(app: Express, context: GatewayContext): void {
  const missing = (silent: Auditor[]) => silent.flatMap((name) => AUDITORS[name]);

  app.get("/v1/admin/audits", async (req, res) => {
    await requireOperator(context.authenticate, req);
    const { answers, silent } = await askEach<{ audits: object[] }, Auditor>(
      context,
      req,
      auditors,
      "GET",
      "/internal/audit",
    );
    res.setHeader("Cache-Control", "no-store");
    res.json({ audits: answers.flatMap(({ audits }) => audits), missing: missing(silent) });
  });

  app.post("/v1/admin/audits", async (req, res) => {
    await requireOperator(context.authenticate, req);
    const { answers, silent } = await askEach<{ requested: object }, Auditor>(
      context,
      req,
      auditors,
      "POST",
      "/internal/audit",
    );
    const requested = Object.assign({}, ...answers.map((answer) => answer.requested));
    res.status(202).json({ requested, missing: missing(silent) });
  });
}
