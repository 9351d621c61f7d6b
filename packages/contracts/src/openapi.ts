import { z } from "zod";
import * as admin from "./http/admin.ts";
import * as analytics from "./http/analytics.ts";
import * as search from "./http/search.ts";
import * as sessions from "./http/sessions.ts";
import * as users from "./http/users.ts";

type Method = "get" | "post" | "patch" | "delete";
type Auth = "none" | "optional" | "user" | "operator";

interface Operation {
  method: Method;
  path: string;
  tag: string;
  summary: string;
  auth: Auth;
  body?: z.ZodType;
  query?: z.ZodObject;
  headers?: string[];
  status: number;
  response?: z.ZodType;
  responseHeaders?: string[];
  /** Problem statuses beyond 400, 401 and 503. */
  problems?: number[];
}

const derived = ["Quartet-As-Of", "Preference-Applied", "Quartet-Freshness"];
const waits = ["Consistency-Token", "Prefer"];

/** Every public operation: the gateway's routes, the browsable page and the document come from this one table. */
export const operations: Operation[] = [
  {
    method: "post",
    path: "/v1/users",
    tag: "Users",
    summary: "Sign up",
    auth: "none",
    body: users.signUpBody,
    headers: ["Idempotency-Key"],
    status: 201,
    response: users.userBody,
    responseHeaders: ["Location", "ETag", "Consistency-Token"],
    problems: [409, 422],
  },
  {
    method: "get",
    path: "/v1/users/{id}",
    tag: "Users",
    summary: "A user; with the email for the user's own token",
    auth: "optional",
    headers: ["If-None-Match"],
    status: 200,
    response: users.userBody,
    responseHeaders: ["ETag"],
    problems: [304, 404],
  },
  {
    method: "patch",
    path: "/v1/users/{id}",
    tag: "Users",
    summary: "Change a user; a changed password ends the other sessions",
    auth: "user",
    body: users.patchUserBody,
    headers: ["If-Match"],
    status: 200,
    response: users.userBody,
    responseHeaders: ["ETag", "Consistency-Token"],
    problems: [403, 404, 409, 412],
  },
  {
    method: "delete",
    path: "/v1/users/{id}",
    tag: "Users",
    summary: "Erase a person from every store",
    auth: "user",
    status: 202,
    response: users.erasureAccepted,
    responseHeaders: ["Location", "Consistency-Token"],
    problems: [403, 404],
  },
  {
    method: "get",
    path: "/v1/erasures/{id}",
    tag: "Users",
    summary: "The receipts of an erasure",
    auth: "none",
    status: 200,
    response: users.erasureBody,
    problems: [404],
  },
  {
    method: "post",
    path: "/v1/sessions",
    tag: "Sessions",
    summary: "Log in",
    auth: "none",
    body: sessions.logInBody,
    status: 201,
    response: sessions.loggedIn,
    responseHeaders: ["Consistency-Token"],
    problems: [429],
  },
  {
    method: "get",
    path: "/v1/sessions",
    tag: "Sessions",
    summary: "My sessions",
    auth: "user",
    headers: waits,
    status: 200,
    response: sessions.sessionList,
    responseHeaders: derived,
  },
  {
    method: "delete",
    path: "/v1/sessions",
    tag: "Sessions",
    summary: "End all my sessions",
    auth: "user",
    status: 204,
    responseHeaders: ["Consistency-Token"],
  },
  {
    method: "get",
    path: "/v1/sessions/current",
    tag: "Sessions",
    auth: "user",
    status: 200,
    summary: "The session of this token and its user, from the local copy",
    headers: waits,
    response: sessions.currentSession,
    responseHeaders: derived,
  },
  {
    method: "delete",
    path: "/v1/sessions/current",
    tag: "Sessions",
    summary: "Log out",
    auth: "user",
    status: 204,
    responseHeaders: ["Consistency-Token"],
  },
  {
    method: "delete",
    path: "/v1/sessions/{id}",
    tag: "Sessions",
    summary: "End one of my sessions",
    auth: "user",
    status: 204,
    responseHeaders: ["Consistency-Token"],
    problems: [404],
  },
  {
    method: "get",
    path: "/v1/search",
    tag: "Search",
    summary: "Find people",
    auth: "none",
    query: search.searchQuery,
    headers: waits,
    status: 200,
    response: search.searchBody,
    responseHeaders: derived,
  },
  {
    method: "get",
    path: "/v1/search/suggest",
    tag: "Search",
    summary: "Type-ahead",
    auth: "none",
    query: search.suggestQuery,
    headers: waits,
    status: 200,
    response: search.suggestBody,
    responseHeaders: derived,
  },
  {
    method: "post",
    path: "/v1/track",
    tag: "Analytics",
    summary: "Record what happened; an id counts once",
    auth: "optional",
    body: analytics.trackBody,
    status: 202,
    response: analytics.tracked,
    responseHeaders: ["Consistency-Token"],
    problems: [403, 413],
  },
  ...(
    [
      ["signups", "Sign-ups over time", analytics.signupsQuery, analytics.seriesBody],
      ["events", "Events of a name over time", analytics.eventsQuery, analytics.seriesBody],
      [
        "active-users",
        "Distinct users with a session or a tracked event",
        analytics.activeUsersQuery,
        analytics.activeUsersBody,
      ],
      [
        "sessions",
        "Sessions started and ended, and how long they were",
        analytics.sessionsQuery,
        analytics.sessionsStatsBody,
      ],
      ["retention", "Cohorts by first activity", analytics.retentionQuery, analytics.retentionBody],
      ["funnel", "How far people came, in order, within a window", analytics.funnelQuery, analytics.funnelBody],
      ["top", "The most frequent values of a property", analytics.topQuery, analytics.topBody],
    ] as const
  ).map(
    ([name, summary, query, response]): Operation => ({
      method: "get",
      path: `/v1/analytics/${name}`,
      tag: "Analytics",
      summary,
      auth: "none",
      query,
      headers: waits,
      status: 200,
      response,
      responseHeaders: derived,
    }),
  ),
  {
    method: "get",
    path: "/v1/people/{id}",
    tag: "Across services",
    auth: "optional",
    status: 200,
    summary: "One person, composed of what each service knows",
    headers: waits,
    response: admin.personBody,
    responseHeaders: derived,
    problems: [404],
  },
  {
    method: "get",
    path: "/v1/admin/status",
    tag: "Operator",
    summary: "Stores, streams, projectors, relays, audit",
    auth: "operator",
    status: 200,
    response: admin.statusBody,
    problems: [403],
  },
  {
    method: "post",
    path: "/v1/admin/import",
    tag: "Operator",
    summary: "Bulk import; idempotent",
    auth: "operator",
    body: admin.importBody,
    status: 200,
    response: admin.importedBody,
    responseHeaders: ["Consistency-Token"],
    problems: [403, 413],
  },
  {
    method: "get",
    path: "/v1/admin/dead",
    tag: "Operator",
    summary: "Dead letters",
    auth: "operator",
    status: 200,
    response: admin.deadLetterList,
    problems: [403],
  },
  {
    method: "get",
    path: "/v1/admin/dead/{seq}",
    tag: "Operator",
    summary: "A dead letter",
    auth: "operator",
    status: 200,
    response: admin.deadLetter,
    problems: [403, 404],
  },
  {
    method: "post",
    path: "/v1/admin/dead/{seq}/retry",
    tag: "Operator",
    summary: "Try a dead letter again",
    auth: "operator",
    status: 202,
    problems: [403, 404],
  },
  {
    method: "delete",
    path: "/v1/admin/dead/{seq}",
    tag: "Operator",
    summary: "Drop a dead letter",
    auth: "operator",
    status: 204,
    problems: [403, 404],
  },
  {
    method: "get",
    path: "/v1/admin/rebuilds",
    tag: "Operator",
    summary: "How far the rebuild of each derived store is, or the last one",
    auth: "operator",
    status: 200,
    response: admin.rebuildList,
    problems: [403],
  },
  {
    method: "post",
    path: "/v1/admin/rebuilds",
    tag: "Operator",
    summary: "Fill a derived store anew from the log while it serves; one at a time",
    auth: "operator",
    body: admin.rebuildBody,
    status: 202,
    response: admin.rebuildState,
    problems: [400, 403, 409],
  },
  {
    method: "get",
    path: "/v1/admin/rebuilds/{store}",
    tag: "Operator",
    summary: "How far the rebuild of a derived store is",
    auth: "operator",
    status: 200,
    response: admin.rebuildState,
    problems: [403, 404],
  },
  {
    method: "get",
    path: "/v1/admin/audits",
    tag: "Operator",
    summary: "What the last audit of each derived store found",
    auth: "operator",
    status: 200,
    response: admin.auditList,
    problems: [403],
  },
  {
    method: "post",
    path: "/v1/admin/audits",
    tag: "Operator",
    summary: "Compare all derived stores now",
    auth: "operator",
    status: 202,
    response: admin.auditRequested,
    problems: [403],
  },
];

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
    422: "The Idempotency-Key came with another body",
    429: "Too many failed logins; see Retry-After",
    503: "A store this needs is down; see Retry-After",
  };
  const codes = new Set([400, ...(op.auth === "none" ? [] : [401]), ...(op.problems ?? []), 503]);
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
