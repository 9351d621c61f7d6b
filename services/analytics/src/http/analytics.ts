import * as contracts from "@quartet/contracts";
import { clientOf, parseQuery, requireOperator } from "@quartet/service";
import type { Express, Request, Response } from "express";
import type { z } from "zod";
import type { ClickHouse, Questions } from "../store/client.ts";
import * as queries from "../store/queries.ts";
import type { Freshen } from "./freshness.ts";
import { rangeOf } from "./range.ts";

/** The reads. What speaks of numbers alone needs no token; what shows values that somebody sent is for the operator. */
export function addAnalyticsRoutes(
  app: Express,
  { clickhouse, freshen }: { clickhouse: ClickHouse; freshen: Freshen },
): void {
  /** The query is checked first, so that a bad one is 400 even while the store is down. */
  const answer = <S extends z.ZodType>(
    name: string,
    schema: S,
    prepare: (query: z.output<S>) => (questions: Questions) => Promise<object>,
    { rawValues = false } = {},
  ) =>
    app.get(`/v1/analytics/${name}`, async (req, res) => {
      if (rawValues) requireOperator(req);
      const run = prepare(parseQuery(schema, req));
      await freshen(req, res);
      res.setHeader("Cache-Control", "no-store");
      res.json(await run(questionsFor(clickhouse, req, res)));
    });

  answer("signups", contracts.signupsQuery, (q) => {
    const range = rangeOf(q, q.interval);
    return (questions) => queries.signups(questions, q.interval, range);
  });
  answer("events", contracts.eventsQuery, (q) => {
    const range = rangeOf(q, q.interval);
    return (questions) => queries.events(questions, q.name, q.interval, range);
  });
  answer("active-users", contracts.activeUsersQuery, (q) => {
    const range = rangeOf(q, q.interval);
    return (questions) => queries.activeUsers(questions, q.interval, range);
  });
  answer("sessions", contracts.sessionsQuery, (q) => {
    const range = rangeOf(q);
    return (questions) => queries.sessions(questions, range);
  });
  answer("retention", contracts.retentionQuery, (q) => {
    const range = rangeOf(q, q.cohort, "cohort");
    return (questions) => queries.retention(questions, q.cohort, q.periods, range);
  });
  answer("funnel", contracts.funnelQuery, (q) => {
    const range = rangeOf(q);
    return (questions) => queries.funnel(questions, q.steps, q.within, range);
  });
  answer(
    "top",
    contracts.topQuery,
    (q) => {
      const range = rangeOf(q);
      return (questions) => queries.top(questions, q.name, q.property, q.limit, range);
    },
    { rawValues: true },
  );
}

/** The questions of a request: the turns are its client's, and when that goes away they end. */
export function questionsFor(clickhouse: ClickHouse, req: Request, res: Response): Questions {
  const gone = new AbortController();
  if (res.closed) gone.abort();
  else res.once("close", () => gone.abort());
  return clickhouse.questionsOf({ client: clientOf(req), gone: gone.signal });
}
