import { z } from "zod";
import * as admin from "./http/admin.ts";
import { documentOf, userIdField } from "./http/fields.ts";
import { type Operation, operations, type Rule } from "./operations.ts";

export { operations } from "./operations.ts";

type Json = Record<string, unknown>;

const TAG = '(?:W/)?"[!#-~\\u0080-\\u00ff]*"';
/** What a token is made of, and the mark behind it: whoever invents one does not come so far by chance. Without a mark: of the release before this one. */
const TOKEN = "(?:eyJ[A-Za-z0-9_-]+|e30)(?:[.][A-Za-z0-9_-]{21}[AQgw])?";

/** Of what a caller may send. What is malformed is a 400, but for `Prefer` and `If-None-Match`, which are ignored then, as their RFCs say. */
const requestHeaders: Record<string, { description: string; schema: Json }> = {
  "Idempotency-Key": {
    description: "Makes a retry safe: the same answer again; another body with the same key is 422",
    schema: { type: "string", pattern: "^[!-~]{1,255}$" },
  },
  "If-Match": {
    description: "Only if the revision is still one of these, else 412",
    schema: {
      type: "string",
      pattern: `^(?:[*]|[ \\t,]*${TAG}(?:[ \\t]*,[ \\t,]*${TAG})*[ \\t,]*)$`,
      examples: ['"1"'],
    },
  },
  "If-None-Match": { description: "304 if the revision is still one of these", schema: { type: "string" } },
  "Consistency-Token": {
    description: "From an accepted write: what a reader has to have seen; nothing if empty",
    schema: { type: "string", pattern: `^(?:${TOKEN})?$`, maxLength: 6023, examples: [""] },
  },
  Prefer: {
    description: "`wait=2`: wait up to so many seconds (at most 10) until the token's write is visible",
    schema: { type: "string" },
  },
};

const seconds = { type: "integer", minimum: 1 };
const responseHeaders: Record<string, { description: string; required?: true; schema: Json }> = {
  "X-Request-Id": {
    description: "The request's own id, if it brought a valid one",
    required: true,
    schema: { type: "string" },
  },
  "Consistency-Token": {
    description: "What a reader has to have seen to see this write",
    required: true,
    schema: { type: "string", pattern: `^${TOKEN}$` },
  },
  "Preference-Applied": {
    description: "The token's write is in this answer",
    schema: { type: "string", const: "wait" },
  },
  "Quartet-Freshness": {
    description: "The wait ran out before the token's write was visible, or too many wait already",
    schema: { type: "string", const: "stale" },
  },
  "Quartet-As-Of": {
    description: "Everything committed before this time is in the answer",
    schema: { type: "string", format: "date-time" },
  },
  Location: {
    description: "Where the resource is",
    required: true,
    schema: { type: "string", format: "uri-reference" },
  },
  ETag: { description: "The revision", required: true, schema: { type: "string", pattern: '^"[0-9]+"$' } },
  "Retry-After": { description: "Try again after so many seconds", required: true, schema: seconds },
  RateLimit: { description: "What is left of the limits; absent where there are none", schema: { type: "string" } },
  "RateLimit-Policy": { description: "The limits of operations of this kind", schema: { type: "string" } },
  "WWW-Authenticate": { description: "`Bearer`", required: true, schema: { type: "string" } },
};

const EVERYWHERE = ["X-Request-Id", "RateLimit", "RateLimit-Policy"];
const problemTexts: Record<number, string> = {
  304: "Not changed",
  400: "A field is bad, or does not go with another: `errors` names it, or both",
  401: "No valid token",
  403: "Not yours",
  404: "Not there",
  408: "The request did not come in time",
  409: "Not now: taken (`errors` names the field), or under way",
  412: "The revision has moved on",
  413: "The body is too large, also where none is asked for",
  415: "The body is not application/json in UTF-8, or, also where none is asked for, is compressed",
  422: "The Idempotency-Key came with another body",
  429: "Too many requests",
  417: "`Expect` asks for more than `100-continue`",
  431: "The headers are more than 16 KiB",
  503: "A store this needs is down, or has no room, or too much is asked at once",
};
const problemHeaders: Record<number, string[]> = {
  304: ["ETag"],
  401: ["WWW-Authenticate"],
  429: ["Retry-After"],
  503: ["Retry-After"],
};
/** Told before it is known which operation it is. */
const OF_THE_CONNECTION = [408, 417, 431];

function jsonSchema(schema: z.ZodType, io: "input" | "output"): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: "any",
    override({ zodSchema, jsonSchema }) {
      const said = documentOf(zodSchema, { ...jsonSchema });
      for (const key of Object.keys(jsonSchema)) delete (jsonSchema as Json)[key];
      Object.assign(jsonSchema, said);
    },
  }) as Json;
  return rest;
}

function parameters(op: Operation): Json[] {
  const path = [...op.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: jsonSchema(op.params?.[name as string] ?? userIdField, "input"),
  }));
  const shape = op.query ? (jsonSchema(op.query, "input") as { properties?: object; required?: string[] }) : {};
  const query = Object.entries(shape.properties ?? {}).map(([name, schema]) => ({
    name,
    in: "query",
    required: shape.required?.includes(name) ?? false,
    ...((schema as Json).type === "array"
      ? { description: "Repeated: all of them", style: "form", explode: true }
      : {}),
    schema,
  }));
  const headers = (op.headers ?? []).map((name) => ({ name, in: "header", required: false, ...requestHeaders[name] }));
  return [...path, ...query, ...headers];
}

function headersOf(names: string[]): Json {
  return { headers: Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }])) };
}

function responses(op: Operation): Json {
  const codes = new Set([
    400,
    ...(op.auth === "none" ? [] : [401]),
    413,
    415,
    ...(op.problems ?? []),
    429,
    503,
    ...OF_THE_CONNECTION,
  ]);
  const out: Json = {
    [op.status]: {
      description: op.summary,
      ...headersOf([...EVERYWHERE, ...(op.responseHeaders ?? [])]),
      ...(op.response ? { content: { "application/json": { schema: jsonSchema(op.response, "output") } } } : {}),
    },
  };
  const content = { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } };
  for (const code of [...codes].sort((a, b) => a - b)) {
    out[code] = {
      description: problemTexts[code] ?? "Problem",
      ...headersOf([
        ...(OF_THE_CONNECTION.includes(code) ? ["X-Request-Id"] : EVERYWHERE),
        ...(problemHeaders[code] ?? []),
      ]),
      ...(code === 304 ? {} : { content }),
    };
  }
  return out;
}

function rulesOf(op: Operation): Rule[] {
  const known: Rule = {
    fields: ["Consistency-Token"],
    rule: "`Consistency-Token` is as an answer gave it: one that was altered or invented is refused.",
  };
  return [...(op.rules ?? []), ...(op.headers?.includes("Consistency-Token") ? [known] : [])];
}

const DESCRIPTION = `What stands here is all that is taken, and every status that may come.
Lengths count characters (Unicode code points), patterns are ECMA-262's with the \`u\` flag. What holds between fields stands in an operation's description,
and as \`x-rules\`: the fields, which a 400 names, and the rule.

A body is one JSON object in UTF-8, as RFC 7493 has it: numbers that a double holds, no key twice, no lone surrogates. It is at most 64 KiB, 1 MiB for
\`/v1/track\`, 8 MiB for \`/v1/admin/import\`, not compressed; where none is asked for, one of at most 64 KiB is not looked at. Fields that are not known are refused; query parameters that are not known are not looked at.
GET also answers HEAD, as GET does but for the body, and every path OPTIONS, by 204 with \`Allow\`; another method than those of a path is 405, with \`Allow\`, and a method
that HTTP does not have is 400.`;

/** The OpenAPI 3.1 document of the public API. */
export function openApi(): Json {
  const paths: Record<string, Json> = {};
  for (const op of operations) {
    const bearer = { bearer: [] };
    const operator = { operator: [] };
    const security = {
      none: [],
      optional: [{}, bearer, operator],
      user: [bearer, operator],
      person: [bearer],
      operator: [operator],
    };
    const rules = rulesOf(op);
    paths[op.path] ??= {};
    paths[op.path]![op.method] = {
      operationId: `${op.method} ${op.path}`.replace(/[^a-zA-Z]+(\w)?/g, (_, c: string | undefined) =>
        (c ?? "").toUpperCase(),
      ),
      tags: [op.tag],
      summary: op.summary,
      ...(rules.length > 0 ? { description: rules.map(({ rule }) => rule).join("\n\n"), "x-rules": rules } : {}),
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
      description: DESCRIPTION,
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    tags: [...new Set(operations.map((o) => o.tag))].map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer", description: "A session token from POST /v1/sessions" },
        operator: { type: "http", scheme: "bearer", description: "The operator token" },
      },
      headers: responseHeaders,
      schemas: { Problem: jsonSchema(admin.problemBody, "output") },
    },
  };
}
