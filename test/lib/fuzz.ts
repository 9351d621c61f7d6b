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

/** A person who is logged in. */
export interface Caller {
  userId: string;
  token: string;
}

/** One request, and whether the document allows it. */
export interface Attempt {
  method: string;
  path: string;
  headers: Record<string, string>;
  body?: string;
  /** What is wrong with it on purpose; undefined: nothing. */
  wrong?: string;
  as: "operator" | "nobody" | Caller;
  /** What it was made from. */
  template: string;
  parts: Parts;
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

/** What was given out, by what it is: ids of what there is, consistency tokens, entity tags, cursors with the query they belong to, keys that were used. */
interface Lists {
  user: string;
  session: string;
  erasure: string;
  seq: number;
  importKey: string;
  idempotencyKey: string;
  token: string;
  etag: string;
  walk: { query: Record<string, unknown>; cursor: string };
  caller: Caller;
}

const MOST_OF_A_KIND = 50;

/** What the system told those who asked, for the requests to come. The newest are kept, so that much of it is still there. */
export class Given {
  readonly #lists = new Map<keyof Lists, unknown[]>();

  add<K extends keyof Lists>(kind: K, ...values: Lists[K][]): void {
    const list = this.#lists.get(kind) ?? [];
    this.#lists.set(kind, list);
    for (const value of values) if (!list.includes(value)) list.push(value);
    list.splice(0, list.length - MOST_OF_A_KIND);
  }

  one<K extends keyof Lists>(kind: K, chance: number): Lists[K] | undefined {
    const list = (this.#lists.get(kind) ?? []) as Lists[K][];
    return list[chance % Math.max(1, list.length)];
  }

  /** How many callers there are whose token was not refused yet. */
  get callers(): number {
    return this.#lists.get("caller")?.length ?? 0;
  }

  /** Takes out of an answer what later requests may carry. */
  learn(sent: Attempt, seen: Seen): void {
    if (seen.status === 401 && typeof sent.as === "object") {
      const { token } = sent.as;
      const callers = (this.#lists.get("caller") ?? []) as Caller[];
      this.#lists.set(
        "caller",
        callers.filter((caller) => caller.token !== token),
      );
    }
    if (seen.status >= 300) return;
    const token = seen.headers.get("consistency-token");
    const etag = seen.headers.get("etag");
    if (token) this.add("token", token);
    if (etag) this.add("etag", etag);
    const key = sent.parts.header["Idempotency-Key"];
    if (key !== undefined) this.add("idempotencyKey", String(key));
    if (seen.text === "") return;
    const told = JSON.parse(seen.text);
    const { cursor: _, limit: __, ...query } = sent.parts.query;
    if (told.nextCursor) this.add("walk", { query, cursor: told.nextCursor });
    if (told.session && told.token) this.add("session", told.session.id);
    for (const session of told.sessions ?? []) if (session.id) this.add("session", session.id);
    for (const hit of told.hits ?? []) this.add("user", hit.id);
    for (const letter of told.deadLetters ?? []) this.add("seq", letter.seq);
    if (sent.template === "/v1/users") this.add("user", told.id);
    if (sent.template === "/v1/users/{id}" && sent.method === "DELETE")
      this.add("erasure", String(seen.headers.get("location")).split("/").at(-1) as string);
    if (sent.template === "/v1/admin/import")
      for (const user of told.users) {
        this.add("user", user.id);
        this.add("importKey", user.key);
      }
  }
}

/** What a parameter may well be. */
const KINDS: Record<string, (template: string) => keyof Lists | undefined> = {
  id: (template) => (({ "/v1/sessions/{id}": "session", "/v1/erasures/{id}": "erasure" })[template] as never) ?? "user",
  seq: () => "seq",
  userId: () => "user",
  "Consistency-Token": () => "token",
  "If-Match": () => "etag",
  "If-None-Match": () => "etag",
  "Idempotency-Key": () => "idempotencyKey",
};
const PREFERENCES = ["wait=0", "wait=1", 'wait="1"', "respond-async, wait=1"];
const WALK = "/v1/search";

/** Puts what was given out in the place of what was made up, mostly; `chance` decides where. */
function dressed(template: string, given: Given, parts: Parts, chance: number): Pick<Attempt, "as" | "parts"> {
  let left = chance;
  const oneOf = (n: number): boolean => {
    const yes = left % n === 0;
    left = Math.floor(left / n);
    return yes;
  };
  const caller = oneOf(4) ? given.one("caller", chance) : undefined;
  const as = caller ?? (oneOf(8) ? "nobody" : "operator");
  const out: Parts = { ...parts, path: { ...parts.path }, query: { ...parts.query }, header: { ...parts.header } };
  for (const place of ["path", "query", "header"] as const)
    for (const name of Object.keys(out[place])) {
      const kind = KINDS[name]?.(template);
      const value = kind && given.one(kind, chance);
      if (value !== undefined && !oneOf(4)) out[place][name] = value;
    }
  if (caller && "id" in out.path && /users|people/.test(template) && oneOf(2)) out.path.id = caller.userId;
  const walk = template === WALK && oneOf(3) ? given.one("walk", chance) : undefined;
  if (walk) {
    const { limit } = out.query;
    out.query = { ...walk.query, cursor: walk.cursor, ...(limit === undefined ? {} : { limit }) };
  }
  const token = given.one("token", chance);
  if (out.header["Consistency-Token"] === "" && token !== undefined) out.header["Consistency-Token"] = token;
  if (out.header.Prefer !== undefined && !oneOf(3)) out.header.Prefer = PREFERENCES[chance % PREFERENCES.length];
  const events = (out.body as { events?: Record<string, unknown>[] } | undefined)?.events;
  if (events)
    out.body = {
      ...(out.body as object),
      events: events.map((event) => ({
        ...event,
        ...("userId" in event && event.userId !== null && oneOf(2) ? { userId: given.one("user", chance) } : {}),
        ...("userKey" in event ? { userKey: given.one("importKey", chance) ?? event.userKey } : {}),
      })),
    };
  return { as, parts: out };
}

/** One character of it another one: what is sealed is not good any more. */
function altered(text: string, chance: number): string {
  const at = chance % text.length;
  const other = text[at] === "A" ? "B" : "A";
  return text.slice(0, at) + other + text.slice(at + 1);
}

/** Near a right value: a character put in, taken out, or changed. */
const ODD = ["\n", " ", "A", "%", "'", '"', "\\", "-", "0", ",", ".", "*"];
function spoilt(text: string, chance: number): string {
  const at = chance % (text.length + 1);
  const odd = ODD[chance % ODD.length] as string;
  return text.slice(0, at) + (chance % 3 === 0 ? "" : odd) + text.slice(at + (chance % 3 === 1 ? 0 : 1));
}

function pathOf(template: string, parts: Parts): string {
  const path = template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(parts.path[name])));
  const query = Object.entries(parts.query).flatMap(([name, value]) =>
    [value].flat().map((v) => `${encodeURIComponent(name)}=${encodeURIComponent(String(v))}`),
  );
  return query.length > 0 ? `${path}?${query.join("&")}` : path;
}

function attempt(
  method: string,
  template: string,
  { as, parts }: Pick<Attempt, "as" | "parts">,
  wrong?: string,
): Attempt {
  const headers = Object.fromEntries(Object.entries(parts.header).map(([name, value]) => [name, String(value)]));
  return {
    method: method.toUpperCase(),
    path: pathOf(template, parts),
    headers: { ...headers, ...(parts.body === undefined ? {} : { "Content-Type": "application/json" }) },
    ...(parts.body === undefined ? {} : { body: JSON.stringify(parts.body) }),
    ...(wrong === undefined ? {} : { wrong }),
    as: wrong !== undefined && as === "nobody" ? "operator" : as,
    template,
    parts,
  };
}

/** Makes requests of one operation: right ones, and for each constraint of the document ones that break it. What was `given` out stands in many of them. */
export function attemptsOf(method: string, template: string, op: Described, given: Given): Arbitrary<Attempt> {
  const anyOf = (p: Parameter): Arbitrary<unknown> =>
    p.in === "header" ? valid(p.schema).filter((v) => sendable(String(v))) : valid(p.schema);
  const place = (where: Parameter["in"]) => {
    const all = op.parameters.filter((p) => p.in === where);
    // What is sealed cannot be made up: where a token may stand one that was given out does, and where a cursor may its whole query.
    const optional = (p: Parameter) => fc.option(OPAQUE.has(p.name) ? fc.constant("") : anyOf(p), { nil: undefined });
    return fc
      .record(Object.fromEntries(all.map((p) => [p.name, p.required ? anyOf(p) : optional(p)])))
      .map((values) =>
        Object.fromEntries(
          Object.entries(values).filter(([name, v]) => v !== undefined && !(name === "cursor" && v === "")),
        ),
      );
  };
  const bodySchema = op.requestBody?.content["application/json"]?.schema;
  const right: Arbitrary<Pick<Attempt, "as" | "parts">> = fc
    .tuple(
      fc.record({
        path: place("path"),
        query: place("query"),
        header: place("header"),
        body: bodySchema ? valid(bodySchema) : fc.constant(undefined),
      }) as Arbitrary<Parts>,
      fc.nat(),
    )
    .map(([parts, chance]) => dressed(template, given, parts, chance));

  const wrongs: Arbitrary<Attempt>[] = [];
  const wrong = (what: string, change: Arbitrary<(parts: Parts) => Parts>) => {
    wrongs.push(
      fc
        .tuple(right, change)
        .map(([{ as, parts }, make]) => attempt(method, template, { as, parts: make(parts) }, what)),
    );
  };
  const setting =
    (p: Parameter, value: unknown) =>
    (parts: Parts): Parts => ({
      ...parts,
      [p.in]: { ...parts[p.in], [p.name]: value },
    });
  for (const p of op.parameters) {
    if (p.required && p.in === "query")
      wrong(
        `${p.name} is missing`,
        fc.constant((parts) => ({ ...parts, query: without(parts.query, p.name) })),
      );
    for (const { what, value } of textMutants(p))
      wrong(
        `${p.name}: ${what}`,
        value.map((v) => setting(p, v)),
      );
    const kind = KINDS[p.name]?.(template);
    // Near what there is: refused where the document does, and else one of many that are not there.
    if (kind && isText(p))
      wrongs.push(
        fc
          .tuple(right, fc.nat())
          .map(([{ as, parts }, chance]) => {
            const value = spoilt(String(given.one(kind, chance) ?? ""), chance);
            const bad = !validator(p.schema)(value) || (OPAQUE.has(p.name) && value !== "");
            return attempt(
              method,
              template,
              { as, parts: setting(p, value)(parts) },
              bad ? `${p.name} is spoilt` : undefined,
            );
          })
          .filter(({ parts }) => {
            const value = String(parts[p.in][p.name]);
            return p.in === "header" ? sendable(value) : p.in !== "path" || !/^\.{0,2}$/.test(value);
          }),
      );
    if (OPAQUE.has(p.name)) {
      wrong(
        `${p.name} is made up`,
        valid(p.schema)
          // One that asks for nothing may be made up.
          .filter((v) => v !== "" && v !== "e30" && sendable(String(v)))
          .map((v) => setting(p, v)),
      );
      wrong(
        `${p.name} is altered`,
        fc.nat().map((chance) => {
          const real = p.name === "cursor" ? given.one("walk", chance)?.cursor : given.one("token", chance);
          return (parts) => setting(p, altered(real ?? "none", chance))(parts);
        }),
      );
    }
    if (p.name === "cursor")
      wrong(
        "the cursor is another query's",
        fc.nat().map((chance) => (parts) => {
          const { query, cursor } = given.one("walk", chance) ?? {
            query: {} as Record<string, unknown>,
            cursor: "none",
          };
          return { ...parts, query: { ...query, q: `${String(query.q ?? "").slice(0, 100)}x`, cursor } };
        }),
      );
  }
  if (bodySchema) {
    for (const { what, value } of mutants(bodySchema))
      wrong(
        `body: ${what}`,
        value.map((body) => (parts) => ({ ...parts, body })),
      );
    const raw = (what: string, change: (a: Attempt) => Attempt) =>
      wrongs.push(right.map((made) => change(attempt(method, template, made, what))));
    raw("no body", ({ body: _, ...a }) => a);
    raw("half a body", (a) => ({ ...a, body: (a.body as string).slice(0, -1) }));
    raw("another content type", (a) => ({ ...a, headers: { ...a.headers, "Content-Type": "text/plain" } }));
    raw("a compressed body", (a) => ({ ...a, headers: { ...a.headers, "Content-Encoding": "gzip" } }));
    raw("a field given twice", (a) => ({ ...a, body: `{"x":1,"x":1,${(a.body as string).slice(1)}` }));
  }
  const rights = fc.tuple(right, fc.nat(7)).map(([made, n]) => {
    const made_ = attempt(method, template, made);
    return method === "get" && n === 0 ? { ...made_, method: "HEAD" } : made_;
  });
  return wrongs.length > 0
    ? fc.oneof({ weight: 1, arbitrary: rights }, { weight: 1, arbitrary: fc.oneof(...wrongs) })
    : rights;
}

/** All that HTTP has and Node reads, but for CONNECT, which has no path. */
const METHODS = "GET HEAD POST PUT PATCH DELETE OPTIONS TRACE QUERY PROPFIND REPORT LINK LOCK PURGE".split(" ");

/** Requests of a path by methods that the document does not have there. */
export function otherMethodsOf(template: string, documented: string[], given: Given): Arbitrary<Attempt> {
  const others = METHODS.filter(
    (m) => !documented.includes(m.toLowerCase()) && !(m === "HEAD" && documented.includes("get")),
  );
  return fc.tuple(fc.constantFrom(...others), fc.nat(), fc.boolean()).map(([method, chance, withBody]) => {
    const values = Object.fromEntries(
      [...template.matchAll(/\{(\w+)\}/g)].map(([, name]) => {
        const kind = KINDS[name as string]?.(template);
        return [name, (kind && given.one(kind, chance)) ?? "1"];
      }),
    );
    const body = withBody && !["HEAD", "OPTIONS", "TRACE"].includes(method) ? { x: 1 } : undefined;
    return attempt(method, template, { as: "operator", parts: { path: values, query: {}, header: {}, body } });
  });
}

/** What of the answer to a method that a path does not have is not as the document says; undefined if all is. */
export function complaintOfOther(document: Document, sent: Attempt, seen: Seen): string | undefined {
  const has = Object.keys(document.paths[sent.template] as object).map((m) => m.toUpperCase());
  const allow = [...has, ...(has.includes("GET") ? ["HEAD"] : [])].sort().join(", ");
  const wanted = sent.method === "OPTIONS" ? 204 : 405;
  if (seen.status !== wanted) return `${sent.method} is ${seen.status}`;
  if (seen.headers.get("allow") !== allow) return `Allow is ${seen.headers.get("allow")} and not ${allow}`;
  if (sent.method === "OPTIONS" || sent.method === "HEAD") return seen.text === "" ? undefined : "a body";
  const type = seen.headers.get("content-type") ?? "";
  return type.startsWith("application/problem+json") ? undefined : `the content type ${type}`;
}

/** Whether all that is near a value comes as it is: a number is read from text. */
const isText = (p: Parameter): boolean => p.schema.type === "string" && !(p.in === "header" && !p.schema.pattern);

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
  if (sent.method === "HEAD") {
    const wanted = Object.keys(response.content ?? { "": {} })[0];
    return seen.text === "" && type === wanted ? undefined : `HEAD: ${type}, ${seen.text.length} bytes`;
  }
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
