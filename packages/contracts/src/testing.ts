import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import fc, { type Arbitrary } from "fast-check";

/** Of JSON Schema what our OpenAPI document uses. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  const?: unknown;
  enum?: unknown[];
  anyOf?: Schema[];
  allOf?: Schema[];
  not?: Schema;
  format?: string;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  items?: Schema;
  minItems?: number;
  maxItems?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  propertyNames?: Schema;
  additionalProperties?: boolean | Schema;
  minProperties?: number;
  maxProperties?: number;
  [other: string]: unknown;
}

/** What breaks one constraint of a schema, and nothing else on purpose. */
export interface Mutant {
  what: string;
  value: Arbitrary<unknown>;
}

// Every format of ours stands beside a pattern that says it.
const ajv = new Ajv2020({ strict: false, validateFormats: false, unicodeRegExp: true });
const byObject = new WeakMap<Schema, ValidateFunction>();
const byText = new Map<string, ValidateFunction>();

/** The validator of a schema without references; made once for all schemas that say the same. */
export function validator(schema: Schema): ValidateFunction {
  let validate = byObject.get(schema);
  if (!validate) {
    const text = JSON.stringify(schema);
    validate = byText.get(text) ?? ajv.compile(schema);
    byText.set(text, validate);
    byObject.set(schema, validate);
  }
  return validate;
}

const typesOf = (schema: Schema): string[] => [schema.type ?? []].flat();
const chars = (unit: "grapheme" | "binary") => fc.string({ unit, minLength: 1, maxLength: 1 });
/** Plain letters mostly, whole Unicode now and then; code points, so that lengths are what the document counts. */
const character = fc.oneof(
  { weight: 6, arbitrary: fc.string({ unit: "grapheme-ascii", minLength: 1, maxLength: 1 }) },
  { weight: 2, arbitrary: chars("binary") },
  { weight: 1, arbitrary: chars("grapheme").map((g) => [...g][0] as string) },
);

function text(min: number, max: number): Arbitrary<string> {
  const length = fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min, max: Math.min(max, min + 20) }) },
    { weight: 1, arbitrary: fc.constantFrom(min, max) },
  );
  return length.chain((n) =>
    fc.oneof(
      {
        weight: 4,
        arbitrary: fc
          .array(character, { minLength: Math.min(n, 24), maxLength: Math.min(n, 24) })
          .map((a) => fill(a, n)),
      },
      { weight: 1, arbitrary: fc.constant("\u{1F600}".repeat(n)) },
    ),
  );
}

function fill(parts: string[], n: number): string {
  let out = "";
  for (let i = 0; i < n; i++) out += parts[i % parts.length] ?? "a";
  return out;
}

function matching(pattern: string): Arbitrary<string> | undefined {
  try {
    // pattern: of our own document, in tests.
    return fc.stringMatching(new RegExp(pattern, "u"));
  } catch {
    return undefined;
  }
}

function stringOf(schema: Schema): Arbitrary<string> {
  const { minLength = 0, maxLength = 60, pattern } = schema;
  // What a pattern alone makes seldom has the length, and what lengths alone make seldom has it: "no such character" is told by a filter.
  const excludes = /^\^\[\^[^\]]*\]\*\$$/.test(pattern ?? "");
  const byPattern = pattern && !excludes ? matching(pattern) : undefined;
  const made = byPattern ?? text(minLength, maxLength);
  return (
    made
      // pattern: of our own document, in tests.
      .map((s) => (excludes ? [...s].map((c) => (new RegExp(pattern as string, "u").test(c) ? c : "b")).join("") : s))
      .filter((s) => validator(schema)(s) as boolean)
  );
}

function numberOf(schema: Schema, whole: boolean): Arbitrary<number> {
  const min = schema.minimum ?? Number.MIN_SAFE_INTEGER;
  const max = schema.maximum ?? Number.MAX_SAFE_INTEGER;
  const integers = fc.oneof(fc.integer({ min, max }), fc.constantFrom(min, max, Math.min(max, Math.max(min, 1))));
  if (whole) return integers;
  return fc.oneof(integers, fc.double({ min, max, noNaN: true }), fc.constantFrom(0.1, 1e-5, 100.25));
}

const arbitraries = new WeakMap<Schema, Arbitrary<unknown>>();

/** Values that the schema allows. Lists and objects stay small, but for their bounds. */
export function valid(schema: Schema): Arbitrary<unknown> {
  let made = arbitraries.get(schema);
  if (!made) {
    const any = raw(schema);
    made = schema.not || schema.allOf ? any.filter((value) => validator(schema)(value) as boolean) : any;
    arbitraries.set(schema, made);
  }
  return made;
}

function raw(schema: Schema): Arbitrary<unknown> {
  if ("const" in schema) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map(valid));
  const types = typesOf(schema);
  if (types.length > 1) return fc.oneof(...types.map((type) => valid({ ...schema, type })));
  switch (types[0]) {
    case "string":
      return stringOf(schema);
    case "integer":
      return numberOf(schema, true);
    case "number":
      return numberOf(schema, false);
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case "array": {
      const { minItems = 0, maxItems = 5 } = schema;
      return fc.array(valid(schema.items ?? {}), { minLength: minItems, maxLength: Math.min(maxItems, minItems + 3) });
    }
    case "object":
      return objectOf(schema);
    default:
      return fc.jsonValue();
  }
}

function objectOf(schema: Schema): Arbitrary<unknown> {
  const { properties = {}, required = [], additionalProperties } = schema;
  const known = fc.record(Object.fromEntries(Object.entries(properties).map(([name, s]) => [name, valid(s)])), {
    requiredKeys: required,
  } as { requiredKeys: never[] });
  const others =
    typeof additionalProperties === "object"
      ? fc.dictionary(stringOf({ type: "string", ...schema.propertyNames }), valid(additionalProperties), {
          maxKeys: Math.min(schema.maxProperties ?? 4, 4),
        })
      : fc.constant({});
  return fc
    .tuple(known, others)
    .map(([a, b]) => ({ ...a, ...b }))
    .filter((value) => Object.keys(value).length >= (schema.minProperties ?? 0));
}

const OTHER_TYPES: Record<string, Arbitrary<unknown>> = {
  string: fc.string(),
  number: fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e9, max: 1e9 }),
  boolean: fc.boolean(),
  null: fc.constant(null),
  array: fc.array(fc.string(), { maxLength: 2 }),
  object: fc.dictionary(fc.string({ maxLength: 5 }), fc.integer(), { maxKeys: 2 }),
};

/** Near a valid string: one character put in, taken out, changed, or doubled. */
const ODD = ["\0", "\n", "\u007f", " ", "A", "é", "%", "'", '"', "\\", "\u{1F600}", "\u202e", "-", "0", ",", "."];
function spoilt(schema: Schema): Arbitrary<unknown> {
  return fc
    .tuple(
      stringOf(schema),
      fc.nat(),
      fc.constantFrom(...ODD),
      fc.constantFrom("insert", "replace", "remove", "append"),
    )
    .map(([s, at, odd, how]) => {
      const all = [...s];
      const i = all.length === 0 ? 0 : at % all.length;
      if (how === "insert") all.splice(i, 0, odd);
      else if (how === "replace") all.splice(i, 1, odd);
      else if (how === "remove") all.splice(i, 1);
      else all.push(odd);
      return all.join("");
    });
}

/** For each constraint of the schema values that break it. What breaks one branch of an `anyOf` and is right in another is left out. */
export function mutants(schema: Schema): Mutant[] {
  const refuses = (value: unknown) => !validator(schema)(value);
  return raws(schema)
    .filter(({ value }) => fc.sample(value, { numRuns: 12, seed: 1 }).filter(refuses).length > 1)
    .map(({ what, value }) => ({ what, value: value.filter(refuses) }));
}

function raws(schema: Schema): Mutant[] {
  const out: Mutant[] = [];
  const add = (what: string, value: Arbitrary<unknown>) => out.push({ what, value });
  if (schema.anyOf) {
    for (const branch of schema.anyOf) out.push(...raws(branch));
    return out.filter(({ what }) => !/^type: /.test(what) || !allTypes(schema).has(what.slice(6)));
  }
  const types = typesOf(schema);
  const taken = new Set(types.flatMap((t) => (t === "integer" ? ["number", "integer"] : [t])));
  for (const [type, value] of Object.entries(OTHER_TYPES)) if (!taken.has(type)) add(`type: ${type}`, value);
  if (schema.enum) add("enum", spoilt({ type: "string", enum: undefined, minLength: 1, maxLength: 5 }));
  if (types.includes("string")) {
    const { minLength = 0, maxLength, pattern, enum: listed, ...rest } = schema;
    const one = { ...rest, type: "string" };
    if (minLength > 0) add("minLength", fc.constant("a".repeat(minLength - 1)));
    if (minLength > 1) add("minLength in characters", fc.constant("\u{1F600}".repeat(minLength - 1)));
    if (maxLength !== undefined) add("maxLength", text(maxLength + 1, maxLength + 9));
    if (pattern !== undefined || schema.allOf)
      add(
        "pattern",
        spoilt({ ...one, minLength, ...(maxLength ? { maxLength } : {}), ...(pattern ? { pattern } : {}) }),
      );
  }
  if (types.includes("integer")) add("whole", fc.constantFrom(0.5, 1.5, -0.25));
  if (types.includes("integer") || types.includes("number")) {
    if (schema.minimum !== undefined)
      add("minimum", fc.constantFrom(schema.minimum - 1, schema.minimum - 1000, schema.minimum * 2 - 1));
    if (schema.maximum !== undefined)
      add("maximum", fc.constantFrom(schema.maximum + 1, schema.maximum + 1000, schema.maximum * 2 + 1));
  }
  if (types.includes("array")) {
    const { items = {}, minItems = 0, maxItems } = schema;
    if (minItems > 0) add("minItems", fc.array(valid(items), { maxLength: minItems - 1 }));
    if (maxItems !== undefined)
      add(
        "maxItems",
        valid(items).map((item) => Array.from({ length: maxItems + 1 }, () => item)),
      );
    for (const { what, value } of raws(items))
      add(
        `items: ${what}`,
        fc.tuple(fc.array(valid(items), { maxLength: 1 }), value).map(([a, b]) => [...a, b]),
      );
  }
  if (types.includes("object")) objectMutants(schema, add);
  return out;
}

function allTypes(schema: Schema): Set<string> {
  return new Set([...typesOf(schema), ...(schema.anyOf ?? []).flatMap((s) => [...allTypes(s)])]);
}

function objectMutants(schema: Schema, add: (what: string, value: Arbitrary<unknown>) => void): void {
  const {
    properties = {},
    required = [],
    additionalProperties,
    propertyNames,
    minProperties = 0,
    maxProperties,
  } = schema;
  const whole = objectOf(schema) as Arbitrary<Record<string, unknown>>;
  for (const name of required)
    add(
      `without ${name}`,
      whole.map(({ [name]: _, ...others }) => others),
    );
  if (additionalProperties === false)
    add(
      "unknown field",
      fc
        .tuple(whole, fc.constantFrom("more", "Name", "id ", "constructor", "$where", ""))
        .map(([o, name]) => ({ ...o, [name]: 1 })),
    );
  if (minProperties > 0) add("minProperties", fc.constant({}));
  for (const [name, s] of Object.entries(properties))
    for (const { what, value } of raws(s))
      add(
        `${name}: ${what}`,
        fc.tuple(whole, value).map(([o, v]) => ({ ...o, [name]: v })),
      );
  if (typeof additionalProperties === "object") {
    const name = stringOf({ type: "string", ...propertyNames });
    for (const { what, value } of raws(additionalProperties))
      add(
        `of a field: ${what}`,
        fc.tuple(whole, name, value).map(([o, key, v]) => ({ ...o, [key]: v })),
      );
    if (propertyNames)
      add(
        "propertyNames",
        fc
          .tuple(whole, spoilt({ type: "string", ...propertyNames }), valid(additionalProperties))
          .map(([o, key, v]) => ({ ...o, [String(key)]: v })),
      );
    if (maxProperties !== undefined)
      add(
        "maxProperties",
        valid(additionalProperties).map((v) =>
          Object.fromEntries(Array.from({ length: maxProperties + 1 }, (_, i) => [`k${i}`, v])),
        ),
      );
  }
}
