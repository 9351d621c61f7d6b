import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { z } from "zod";
import { openApi, operations } from "../src/openapi.ts";
import { mutants, type Schema, valid } from "../src/testing.ts";

interface Described {
  parameters: { name: string; in: string; required: boolean; schema: Schema }[];
  requestBody?: { content: { "application/json": { schema: Schema } } };
}
const paths = openApi().paths as Record<string, Record<string, Described>>;

/** A parameter as it comes through HTTP: text, or a list of texts. */
const sent = (value: unknown) => (Array.isArray(value) ? (value.length === 1 ? value[0] : value) : String(value));

/** Each schema that decides, with what the document says of it. */
const places: { where: string; decides: z.ZodType; schema: Schema; textual: boolean }[] = operations.flatMap((op) => {
  const described = paths[op.path]?.[op.method] as Described;
  const parameters = described.parameters
    .filter((p) => p.in === "query")
    .map((p) => ({
      where: `${op.method} ${op.path} ${p.name}`,
      decides: op.query?.shape[p.name] as z.ZodType,
      schema: p.schema,
      textual: true,
    }));
  const body = described.requestBody?.content["application/json"].schema;
  return body && op.body
    ? [...parameters, { where: `${op.method} ${op.path} body`, decides: op.body, schema: body, textual: false }]
    : parameters;
});

describe.each(places)("$where: the document and what decides are one", ({ decides, schema, textual }) => {
  it("takes what is valid", () => {
    fc.assert(
      fc.property(valid(schema), (value) => {
        const given = textual ? sent(value) : value;
        if (Array.isArray(given) && given.length === 0) return;
        const parsed = decides.safeParse(given);
        expect(parsed.success, `${JSON.stringify(given)}: ${parsed.error?.message}`).toBe(true);
      }),
      { numRuns: textual ? 200 : 100 },
    );
  });

  it.each(mutants(schema).filter(({ what }) => !(textual && /type: |^whole$/.test(what))))(
    "refuses: $what",
    ({ value }) => {
      fc.assert(
        fc.property(value, (broken) => {
          const given = textual ? sent(broken) : broken;
          expect(decides.safeParse(given).success, JSON.stringify(given).slice(0, 500)).toBe(false);
        }),
        { numRuns: 10 },
      );
    },
  );
});
