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

test("finds what constants make, each way it may be, and tells what nobody knows", () => {
  const source = `
    import { elsewhere } from "./b.ts";
    const WORD = "[a-z]+";
    const either = Math.random() > 0.5 ? WORD : \`\${WORD}_\`;
    const literal = /x+/;
    new RegExp(either + "$", "u");
    RegExp(literal.source);
    new RegExp(\`^\${RegExp.escape(elsewhere)}:\${3}\`);
    new RegExp(elsewhere);
    let turned = "a";
    new RegExp(turned);
    // pattern: one of three that we wrote
    new RegExp(turned);
    function f(WORD) {
      new RegExp(WORD);
      return ({ either }) => new RegExp(either);
    }
    for (const literal of []) new RegExp(literal);
    {
      const WORD = "inner";
      new RegExp(WORD, "g");
    }
    new RegExp(WORD, turned);`;
  const found = patterns(source).map(({ source, flags, line, unknown }) => [line, unknown ? "?" : source, flags]);
  expect(found).toEqual([
    [5, "x+", ""],
    [6, "[a-z]+$", "u"],
    [6, "[a-z]+_$", "u"],
    [7, "x+", ""],
    [8, "^escaped:3", ""],
    [9, "?", ""],
    [11, "?", ""],
    [15, "?", ""],
    [16, "?", ""],
    [18, "?", ""],
    [21, "inner", "g"],
    [23, "?", ""],
  ]);
});

test("what is made of who knows what is refused", async () => {
  const [pattern] = patterns("export const of = (name: string) => new RegExp('(' + name + ')*');");
  expect(await faultOf(pattern!)).toMatch(/RegExp.escape/);
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
