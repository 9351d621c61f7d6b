import { mutants, type Schema, valid, validator } from "@quartet/contracts/testing";
import fc, { type Arbitrary } from "fast-check";

interface Parameter {
  name: string;
  in: "path" | "query" | "header";
  required: boolean;
  schema: Schema;
}
interface Header {
  required?: boolean;
  schema: Schema;
}
interface Response {
  headers?: Record<string, { $ref: string }>;
  content?: Record<string, { schema: Schema }>;
}
/** Of an operation of an OpenAPI document what requests are made from and answers held against. */
export interface Described {
  parameters: Parameter[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses: Record<string, Response>;
  "x-rules"?: { fields: string[]; rule: string }[];
}
export interface Document {
  paths: Record<string, Record<string, Described>>;
  components: { schemas: Record<string, Schema>; headers: Record<string, Header> };
}

/** One request, and whether the document allows it. */
export interface Attempt {
  method: string;
  path: string;
  headers: Record<string, string>;
  body?: string;
  /** What is wrong with it on purpose; undefined: nothing. */
  wrong?: string;
}

export interface Seen {
  status: number;
  headers: Headers;
  text: string;
}

/** Headers go through HTTP, which has no line ends and nothing beyond a byte in them, and trims them. */
const sendable = (value: string) => /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value);
/** What an opaque value of ours must be cannot be made up; its rule says so. */
const OPAQUE = new Set(["Consistency-Token", "cursor"]);

type Parts = Record<"path" | "query" | "header", Record<string, unknown>> & { body?: unknown };

function pathOf(template: string, parts: Parts): string {
  const path = template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(parts.path[name])));
  const query = Object.entries(parts.query).flatMap(([name, value]) =>
    [value].flat().map((v) => `${encodeURIComponent(name)}=${encodeURIComponent(String(v))}`),
  );
  return query.length > 0 ? `${path}?${query.join("&")}` : path;
}

function attempt(method: string, template: string, parts: Parts, wrong?: string): Attempt {
  const headers = Object.fromEntries(Object.entries(parts.header).map(([name, value]) => [name, String(value)]));
  return {
    method: method.toUpperCase(),
    path: pathOf(template, parts),
    headers: { ...headers, ...(parts.body === undefined ? {} : { "Content-Type": "application/json" }) },
    ...(parts.body === undefined ? {} : { body: JSON.stringify(parts.body) }),
    ...(wrong === undefined ? {} : { wrong }),
  };
}

/** Makes requests of one operation: right ones, and for each constraint of the document ones that break it. `known` are values that a parameter may well have. */
export function attemptsOf(
  method: string,
  template: string,
  op: Described,
  known: (parameter: string) => unknown[],
): Arbitrary<Attempt> {
  const anyOf = (p: Parameter): Arbitrary<unknown> => {
    const made = p.in === "header" ? valid(p.schema).filter((v) => sendable(String(v))) : valid(p.schema);
    const values = known(p.name).filter((v) => validator(p.schema)(v));
    return values.length > 0 ? fc.oneof(fc.constantFrom(...values), made) : made;
  };
  const place = (where: Parameter["in"]) => {
    const all = op.parameters.filter((p) => p.in === where);
    // Seldom: an opaque value that is made up only tells that it is refused.
    const optional = (p: Parameter) =>
      OPAQUE.has(p.name) ? fc.constant(undefined) : fc.option(anyOf(p), { nil: undefined });
    return fc
      .record(Object.fromEntries(all.map((p) => [p.name, p.required ? anyOf(p) : optional(p)])))
      .map((values) => Object.fromEntries(Object.entries(values).filter(([, v]) => v !== undefined)));
  };
  const bodySchema = op.requestBody?.content["application/json"]?.schema;
  const right: Arbitrary<Parts> = fc.record({
    path: place("path"),
    query: place("query"),
    header: place("header"),
    body: bodySchema ? valid(bodySchema) : fc.constant(undefined),
  }) as Arbitrary<Parts>;

  const wrongs: Arbitrary<Attempt>[] = [];
  const wrong = (what: string, parts: Arbitrary<Parts>) => {
    wrongs.push(parts.map((p) => attempt(method, template, p, what)));
  };
  for (const p of op.parameters) {
    if (p.required && p.in === "query")
      wrong(
        `${p.name} is missing`,
        right.map((parts) => ({ ...parts, query: without(parts.query, p.name) })),
      );
    for (const { what, value } of textMutants(p))
      wrong(
        `${p.name}: ${what}`,
        fc.tuple(right, value).map(([parts, v]) => ({ ...parts, [p.in]: { ...parts[p.in], [p.name]: v } })),
      );
    if (OPAQUE.has(p.name))
      wrong(
        `${p.name} is made up`,
        fc
          .tuple(
            right,
            valid(p.schema).filter((v) => sendable(String(v))),
          )
          .map(([parts, v]) => ({
            ...parts,
            [p.in]: { ...parts[p.in], [p.name]: v },
          })),
      );
  }
  if (bodySchema) {
    for (const { what, value } of mutants(bodySchema))
      wrong(
        `body: ${what}`,
        fc.tuple(right, value).map(([parts, body]) => ({ ...parts, body })),
      );
    const raw = (what: string, change: (a: Attempt) => Attempt) =>
      wrongs.push(right.map((p) => change(attempt(method, template, p, what))));
    raw("no body", ({ body: _, ...a }) => a);
    raw("half a body", (a) => ({ ...a, body: (a.body as string).slice(0, -1) }));
    raw("another content type", (a) => ({ ...a, headers: { ...a.headers, "Content-Type": "text/plain" } }));
    raw("a compressed body", (a) => ({ ...a, headers: { ...a.headers, "Content-Encoding": "gzip" } }));
    raw("a field given twice", (a) => ({ ...a, body: `{"x":1,"x":1,${(a.body as string).slice(1)}` }));
  }
  const rights = right.map((parts) => attempt(method, template, parts));
  return wrongs.length > 0
    ? fc.oneof({ weight: 1, arbitrary: rights }, { weight: 1, arbitrary: fc.oneof(...wrongs) })
    : rights;
}

function without(values: Record<string, unknown>, name: string): Record<string, unknown> {
  const { [name]: _, ...rest } = values;
  return rest;
}

/** Through a path, a query or a header everything comes as text: what breaks a constraint must still break it there. */
function textMutants(p: Parameter) {
  const ignored = p.in === "header" && !p.schema.pattern;
  if (ignored) return [];
  const asText = (value: unknown): boolean => {
    const texts = [value].flat().map(String);
    if (p.in === "header") return texts.every(sendable);
    // A path segment that is nothing, or dots, is another path.
    if (p.in === "path" && texts.some((t) => /^\.{0,2}$/.test(t))) return false;
    const types = [p.schema.type].flat();
    if (types.includes("integer") && texts.every((t) => /^-?\d+$/.test(t)))
      return !validator(p.schema)(Number(texts[0]));
    if (types.includes("array")) return texts.length > 0 && !validator(p.schema)(texts);
    return !validator(p.schema)(texts[0]);
  };
  return mutants(p.schema)
    .filter(({ what }) => !/type: /.test(what))
    .filter(({ value }) => fc.sample(value, { numRuns: 30, seed: 1 }).some(asText))
    .map(({ what, value }) => ({ what, value: value.filter(asText) }));
}

/** What of an answer is not as the document says, in words; undefined if all is. */
export function complaint(document: Document, op: Described, sent: Attempt, seen: Seen): string | undefined {
  const { status } = seen;
  if ([500, 502, 504].includes(status)) return `a ${status}`;
  const response = op.responses[status];
  if (!response) return `the undocumented status ${status}`;
  if (sent.wrong !== undefined && status < 400) return `accepted although ${sent.wrong}`;
  const type = (seen.headers.get("content-type") ?? "").split(";")[0] as string;
  const content = response.content?.[type];
  let body: unknown;
  if (content) {
    const schema = content.schema.$ref
      ? document.components.schemas[content.schema.$ref.split("/").at(-1) as string]
      : content.schema;
    body = JSON.parse(seen.text);
    const validate = validator(schema as Schema);
    if (!validate(body)) return `a body that is not its schema's: ${JSON.stringify(validate.errors).slice(0, 500)}`;
  } else if (response.content || seen.text !== "") return `the content type ${type || "none"} at ${status}`;
  for (const name of Object.keys(response.headers ?? {})) {
    const header = document.components.headers[name] as Header;
    const value = seen.headers.get(name);
    if (value === null) {
      if (header.required) return `no header ${name} at ${status}`;
    } else if (!validator(header.schema)(header.schema.type === "integer" ? Number(value) : value))
      return `a header ${name}: ${value}`;
  }
  if (sent.wrong === undefined && [400, 415, 422].includes(status)) {
    const fields = ((body as { errors?: { path: string }[] })?.errors ?? []).map(({ path }) => path);
    if (!(op["x-rules"] ?? []).some((rule) => names(rule.fields, fields)))
      return `a ${status} for what the document allows`;
  }
  return undefined;
}

/** Whether a 400 names the fields of a rule: only those, and two of them if the rule is about two. */
function names(rule: string[], fields: string[]): boolean {
  const patterns = rule.map((f) => new RegExp(`^${f.replace(/[.*]/g, (c) => (c === "*" ? "\\d+" : "\\."))}$`));
  const met = patterns.filter((p) => fields.some((f) => p.test(f)));
  return fields.every((f) => patterns.some((p) => p.test(f))) && met.length >= Math.min(2, rule.length);
}
