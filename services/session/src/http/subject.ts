import { sessionsQueryOfOperator } from "@quartet/contracts";
import { HttpProblem, identityOf, parseQuery, requireUser } from "@quartet/service";
import type { Request } from "express";

/** Whose sessions a request is about: the caller's own, or for the operator those of `?userId=`; 403 without, as the operator has none. What is no id is a 400 for both. */
export function subjectOf(req: Request): string {
  const own = identityOf(req)?.kind === "operator" ? undefined : requireUser(req).userId;
  const { userId } = parseQuery(sessionsQueryOfOperator, req);
  if (own !== undefined) return own;
  if (userId !== undefined) return userId;
  const message = "is needed with the operator's token, which has no sessions of its own";
  throw new HttpProblem(403, { detail: `userId ${message}`, errors: [{ path: "userId", message }] });
}
