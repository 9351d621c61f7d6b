import { describe, expect, it } from "vitest";
import { deepestJson, ijsonFlaw } from "../src/ijson.ts";

const pathOf = (text: string) => ijsonFlaw(text)?.path;

describe("what JSON.parse would change without a word", () => {
  it("is a number that a double does not hold, however it is written", () => {
    for (const number of [
      "9007199254740993",
      "9007199254740992",
      "-9007199254740992",
      "9007199254740993.0",
      "90071992547409.93e2",
      "9007199254740991.6",
      "12345678901234567890",
      "1e16",
      "1E300",
      "1e400",
      "-1e400",
      "0.1e18",
      "1e-400",
      `1${"0".repeat(400)}`,
      `0.${"0".repeat(400)}1`,
    ]) {
      const found = ijsonFlaw(`{"events":[{"name":"a"},{"properties":{"b":1,"order":${number}}}]}`);
      expect(found, number).toMatchObject({ path: "events.1.properties.order" });
    }
  });

  it("is not a number that a double holds, nor a fraction", () => {
    for (const number of [
      "9007199254740991",
      "-9007199254740991",
      "9007199254740991.0",
      "900719925474099.1e1",
      "0.1",
      "-0.1",
      "1e2",
      "1E+2",
      "1e15",
      "0",
      "-0",
      "0e999",
      "0.000e-999",
      "5e-324",
      "3.141592653589793238462643383279",
      `0.${"3".repeat(400)}`,
    ]) {
      expect(ijsonFlaw(`{"a":${number},"b":[${number}]}`), number).toBeUndefined();
    }
  });

  it("is a key that an object has twice, also when it is written in two ways", () => {
    expect(pathOf('{"a":1,"b":{"c":1,"c":1}}')).toBe("b.c");
    expect(pathOf('{"ab":1,"a\\u0062":2}')).toBe("ab");
    expect(pathOf('{"__proto__":1,"__proto__":2}')).toBe("__proto__");
    expect(pathOf('[{"a":1},{"a":1,"a":1}]')).toBe("1.a");
    const many = Array.from({ length: 100 }, (_, i) => `"k${i}":{"k":0}`);
    expect(pathOf(`{${many.join(",")}}`)).toBeUndefined();
    expect(pathOf(`{${[...many, '"k3":0'].join(",")}}`)).toBe("k3");
    // The same key in neighbours, and a value that looks like a key.
    expect(pathOf('{"a":"a","b":["a","a"],"c":{"a":"a"},"d":{"a":"a"}}')).toBeUndefined();
  });

  it("is text that is no Unicode", () => {
    expect(pathOf('{"a":[1,"x\\ud800y"]}')).toBe("a.1");
    expect(pathOf('{"a":"\\uDC00\\uD800"}')).toBe("a");
    expect(pathOf('{"b\\ud800":1}')).toBe("b\ufffd");
    expect(pathOf('{"a":"\\ud83d\\ude00 \\\\ud800 \\" \\u0041"}')).toBeUndefined();
  });

  it("is not what stands in strings", () => {
    expect(pathOf('{"a":"\\"b\\":1e400,{[,:}","c":"\\\\","d":1}')).toBeUndefined();
  });

  it("names nesting that goes too deep", () => {
    const deep = (n: number) => `${"[".repeat(n)}${"]".repeat(n)}`;
    expect(ijsonFlaw(deep(deepestJson))).toBeUndefined();
    expect(ijsonFlaw(deep(deepestJson + 1))?.message).toMatch(/deeper/);
    expect(ijsonFlaw("[".repeat(1_000_000))?.message).toMatch(/deeper/);
    expect(ijsonFlaw('{"a":'.repeat(1_000_000))?.message).toMatch(/deeper/);
  });

  it("leaves what is no JSON to the parser", () => {
    for (const text of ["", '"', '"\\', '{"a', "]]}}", "{,,:", "-", "1e", '{"a\\x":1}', "[1,2", "}{", ":"]) {
      expect(ijsonFlaw(text), text).toBeUndefined();
    }
  });

  it("agrees with JSON.parse on whatever it lets through", () => {
    let seed = 12;
    const next = (n: number) => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return Math.floor((seed / 2147483648) * n);
    };
    const value = (depth: number): unknown => {
      const kind = next(depth > 4 ? 5 : 7);
      if (kind === 0) return next(1_000_000) - 500_000;
      if (kind === 1) return next(1000) / 7;
      if (kind === 2) return String.fromCodePoint(...Array.from({ length: next(5) }, () => next(0xd7ff)));
      if (kind < 5) return [true, false, null][next(3)];
      if (kind === 5) return Array.from({ length: next(5) }, () => value(depth + 1));
      return Object.fromEntries(Array.from({ length: next(20) }, (_, i) => [`k"${i}`, value(depth + 1)]));
    };
    for (let i = 0; i < 500; i++) expect(ijsonFlaw(JSON.stringify(value(0)))).toBeUndefined();
  });
});
