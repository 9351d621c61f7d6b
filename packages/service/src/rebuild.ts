import type { RebuildState } from "@quartet/contracts";
import type { Express } from "express";
import { onlyFor } from "./identity.ts";
import { metrics } from "./metrics.ts";
import { HttpProblem } from "./problem.ts";
import { observeRebuild } from "./store-metrics.ts";

/** The rebuild of a service's store, as its own workers carry it out. */
export interface Rebuilds {
  /** Begins one. False if one is under way. */
  start(): Promise<boolean>;
  state(): Promise<Omit<RebuildState, "store">>;
}

/** `POST` and `GET /internal/rebuild`: begins the rebuild of this service's store, and says how far it is. A second one at a time is a 409. */
export function addRebuildRoutes(app: Express, store: RebuildState["store"], rebuilds: Rebuilds): void {
  observeRebuild(metrics, store, () => rebuilds.state());
  app.post("/internal/rebuild", onlyFor("gateway"), async (_req, res) => {
    if (!(await rebuilds.start())) {
      throw new HttpProblem(409, { slug: "rebuild-under-way", detail: `a rebuild of ${store} is under way` });
    }
    res.status(202).json({ store, ...(await rebuilds.state()) });
  });
  app.get("/internal/rebuild", onlyFor("gateway"), async (_req, res) => {
    res.json({ store, ...(await rebuilds.state()) });
  });
}
