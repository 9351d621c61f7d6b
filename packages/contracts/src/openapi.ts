import { z } from "zod";
import * as admin from "./http/admin.ts";
import { type Operation, operations } from "./operations.ts";

export { operations } from "./operations.ts";

const headerText: Record<string, string> = {
  "Idempotency-Key": "Makes a retry safe: the same answer again; another body with the same key is 422",
  "If-Match": "Only if the revision is still this one, else 412",
  "If-None-Match": "304 if the revision is still this one",
  "Consistency-Token": "From an accepted write: what a reader has to have seen",
  Prefer: "`wait=2`: wait up to so many seconds (at most 10) until the token's write is visible",
  "Preference-Applied": "`wait`: the token's write is in this answer",
  "Quartet-Freshness": "`stale`: the wait ran out before the token's write was visible",
  "Quartet-As-Of": "Everything committed before this time is in the answer",
  Location: "Where the new resource is",
  ETag: "The revision",
};

function jsonSchema(schema: z.ZodType, io: "input" | "output"): unknown {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" }) as Record<string, unknown>;
  return rest;
}

function parameters(op: Operation): unknown[] {
  const path = [...op.path.matchAll(/\{(\w+)\}/g)].map((m) => ({
    name: m[1],
    in: "path",
    required: true,
    schema: { type: m[1] === "seq" ? "integer" : "string" },
  }));
  const shape = op.query ? (jsonSchema(op.query, "input") as { properties?: object; required?: string[] }) : {};
  const query = Object.entries(shape.properties ?? {}).map(([name, schema]) => ({
    name,
    in: "query",
    required: shape.required?.includes(name) ?? false,
    schema,
  }));
  const headers = (op.headers ?? []).map((name) => ({
    name,
    in: "header",
    required: false,
    description: headerText[name],
    schema: { type: "string" },
  }));
  return [...path, ...query, ...headers];
}

function responses(op: Operation): Record<string, unknown> {
  const problem = { content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } } };
  const texts: Record<number, string> = {
    304: "Not changed",
    400: "A field is bad: `errors` names it",
    401: "No valid token",
    403: "Not yours",
    404: "Not there",
    409: "Taken: `errors` names the field",
    412: "The revision has moved on",
    413: "Too large",
    415: "Not application/json",
    422: "The Idempotency-Key came with another body",
    429: "Too many failed logins; see Retry-After",
    503: "A store this needs is down; see Retry-After",
  };
  const codes = new Set([
    400,
    ...(op.auth === "none" ? [] : [401]),
    ...(op.body ? [413, 415] : []),
    ...(op.problems ?? []),
    503,
  ]);
  const out: Record<string, unknown> = {
    [op.status]: {
      description: op.summary,
      ...(op.responseHeaders
        ? {
            headers: Object.fromEntries(
              op.responseHeaders.map((h) => [h, { description: headerText[h], schema: { type: "string" } }]),
            ),
          }
        : {}),
      ...(op.response ? { content: { "application/json": { schema: jsonSchema(op.response, "output") } } } : {}),
    },
  };
  for (const code of [...codes].sort()) {
    out[code] = { description: texts[code] ?? "Problem", ...(code === 304 ? {} : problem) };
  }
  return out;
}

/** The OpenAPI 3.1 document of the public API. */
export function openApi(): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const op of operations) {
    const security = { none: [], optional: [{}, { bearer: [] }], user: [{ bearer: [] }], operator: [{ operator: [] }] };
    paths[op.path] ??= {};
    paths[op.path]![op.method] = {
      operationId: `${op.method} ${op.path}`.replace(/[^a-zA-Z]+(\w)?/g, (_, c: string | undefined) =>
        (c ?? "").toUpperCase(),
      ),
      tags: [op.tag],
      summary: op.summary,
      security: security[op.auth],
      parameters: parameters(op),
      ...(op.body
        ? { requestBody: { required: true, content: { "application/json": { schema: jsonSchema(op.body, "input") } } } }
        : {}),
      responses: responses(op),
    };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Quartet",
      version: "1.0.0",
      summary: "Database per service with polyglot persistence, behind one gateway",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    tags: [...new Set(operations.map((o) => o.tag))].map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer", description: "A session token from POST /v1/sessions" },
        operator: { type: "http", scheme: "bearer", description: "The operator token" },
      },
      schemas: { Problem: jsonSchema(admin.problemBody, "output") },
    },
  };
}
