import { expect, test } from "vitest";
import { faultOf, patternsOf } from "../src/patterns.ts";

const patterns = (text: string) => patternsOf("a.ts", text);

test("finds the literals of a source, but for those that are excused with a reason", () => {
  const source = [
    "const a: RegExp = /a+/g;",
    "const quoted = '/b+/';",
    "// pattern: only our own names get here",
    "const c = /c+/;",
    "const d = /d+/u; // pattern: ours too",
    "const e = /e+/; // pattern:",
  ].join("\n");
  expect(patterns(source).map(({ source, flags, line }) => [source, flags, line])).toEqual([
    ["a+", "g", 1],
    ["e+", "", 6],
  ]);
});

test.each([
  ["/^[a-z]+$/", undefined],
  ["/[^a-z]+/g", undefined],
  ["/_+$/", /2nd degree/],
  ["/^(a|a)*$/", /exponential/],
  // Each attempt is linear, all of them are not.
  ['/(?:"(?:\\\\.|[^"\\\\])*"|[^,"])+/g', /again and again/],
  ["/[\\p{L}--[a-z]]/v", /cannot be told/],
])("%s", async (literal, fault) => {
  const [pattern] = patterns(`const p = ${literal};`);
  const found = await faultOf(pattern!);
  if (fault === undefined) expect(found).toBeUndefined();
  else expect(found).toMatch(fault);
});
