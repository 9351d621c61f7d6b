import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv } from "ajv";
import { expect, test } from "vitest";
import { parse } from "yaml";

const root = new URL("../../charts/", import.meta.url).pathname;
const CHARTS = globSync("*/values.schema.json", { cwd: root }).map((file) => file.split("/")[0]!);

type Values = any;

/** Every value of a file by its path; a map that may hold any names is a value itself. */
function* paths(values: Values, at: string[] = []): Generator<string[]> {
  for (const [key, value] of Object.entries(values)) {
    const path = [...at, key];
    const isMap = typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length > 0;
    if (isMap) yield* paths(value, path);
    else yield path;
  }
}

function changed(values: Values, path: string[], value: unknown): Values {
  const copy = structuredClone(values);
  const parent = path.slice(0, -1).reduce((node, key) => node[key], copy);
  parent[path.at(-1)!] = value;
  return copy;
}

test.each(CHARTS)("the schema of %s takes its own values, and names each one that is wrong", (chart) => {
  const values = parse(readFileSync(join(root, chart, "values.yaml"), "utf8"));
  const validate = new Ajv({ strict: false, allErrors: true }).compile(
    JSON.parse(readFileSync(join(root, chart, "values.schema.json"), "utf8")),
  );
  const errors = (v: Values) =>
    validate(v) ? [] : validate.errors!.map((e) => e.instancePath + JSON.stringify(e.params));
  expect(errors(values)).toEqual([]);

  let checked = 0;
  for (const path of paths(values)) {
    // The umbrella hands the values of a part to that part's own schema.
    if (chart === "quartet" && path[0] !== "global") continue;
    const wrong = errors(changed(values, path, [["nonsense"]]));
    expect(wrong.join(), path.join(".")).toContain(`/${path.join("/")}`);
    const beside = errors(changed(values, [...path.slice(0, -1), "misspelt"], 1));
    // Beside a label of a selector, or a key of a map, another one is allowed.
    if (!/matchLabels|labels|Annotations|nodeSelector/.test(path.join(".")))
      expect(beside.join(), path.join(".")).toContain("misspelt");
    checked++;
  }
  expect(checked).toBeGreaterThan(chart === "quartet" ? 1 : 10);
});
