import { userIdField } from "@quartet/contracts";
import { identityOf, parseQuery, requireUser } from "@quartet/service";
import type { Request } from "express";
import { z } from "zod";

const operatorQuery = z.object({ userId: userIdField });

/** Whose sessions a request is about: the caller's own, or for the operator those of `?userId=`. */
export function subjectOf(req: Request): string {
  if (identityOf(req)?.kind === "operator") return parseQuery(operatorQuery, req).userId;
  return requireUser(req).userId;
}
