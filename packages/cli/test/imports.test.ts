import { spawnSync } from "node:child_process";
import { cpSync, globSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { expect, onTestFinished, test } from "vitest";

const root = resolve(import.meta.dirname, "../../..");

/** Files that break a rule: which rules, the file, its source. */
const BREAKS: [rules: string, file: string, source: string][] = [
  ["no-circle", "chaos/circle-a.ts", 'export * from "./circle-b.ts";'],
  ["resolvable", "chaos/nowhere.ts", 'import "./is-not-there.ts";'],
  ["declared", "packages/service/src/undeclared.ts", 'import type { Redis } from "ioredis";'],
  ["declared", "services/gateway/test/undeclared.ts", 'import { createTestEngine } from "@quartet/engines";'],
  ["declared", "test/undeclared.ts", 'import pino from "pino";'],
  ["declared-for-runtime", "packages/service/src/for-tests.ts", 'import { expect } from "vitest";'],
  ["package-by-name", "bench/by-path.ts", 'export { emit } from "../packages/contracts/src/index.ts";'],
  ["package-by-name", "packages/cli/test/by-path.ts", 'import "../../engines/src/index.ts";'],
  ["package-by-name", "services/user/src/http/by-path.ts", 'import "../../../../packages/contracts/src/index.ts";'],
  ["declared service-alone", "services/user/src/by-name.ts", 'import "@quartet/session-service";'],
  ["service-alone", "services/user/test/by-path.ts", 'export * from "../../session/src/main.ts";'],
  ["service-alone", "packages/cli/src/by-path.ts", 'import "../../../services/session/src/main.ts";'],
  ["product-alone", "services/user/test/of-the-whole.ts", 'import "../../../test/lib/client.ts";'],
  ["product-alone", "packages/cli/src/measures.ts", 'const { run } = await import("../../../bench/run.ts");'],
  ["only-store-has-the-database", "services/user/src/http/rows.ts", 'import type pg from "pg";'],
  ["only-store-has-the-database", "services/analytics/src/late.ts", 'await import("@clickhouse/client");'],
  ["only-store-has-the-database", "services/search/src/events/a.ts", 'import "@elastic/elasticsearch";'],
  ["only-store-has-the-database", "services/session/src/http/a.ts", 'export type { Redis } from "ioredis";'],
  ["only-events-has-the-streams", "services/user/src/store/a.ts", 'import { connect } from "nats";'],
  ["only-events-has-the-streams", "services/user/src/a.ts", 'import {} from "@quartet/outbox";'],
  ["only-events-has-the-streams", "services/user/src/http/a.ts", 'import {} from "@quartet/projection";'],
  ["declared-for-runtime service-without-tools", "services/user/src/b.ts", 'import {} from "@quartet/engines";'],
  ["no-test-helpers", "services/user/src/c.ts", 'import { startService } from "@quartet/service/testing";'],
  ["no-test-helpers", "packages/outbox/src/a.ts", 'import "../test/world.ts";'],
  ["no-test-file", "test/imports-a-test.ts", 'import type { World } from "./some.test.ts";'],
  ["declared package-contracts", "packages/contracts/src/a.ts", 'import "express";'],
  ["declared package-service", "packages/service/src/a.ts", 'import "@quartet/outbox";'],
  ["declared package-outbox", "packages/outbox/src/b.ts", 'import { emit } from "@quartet/contracts";'],
  ["declared package-projection", "packages/projection/src/a.ts", 'import "@quartet/service";'],
  ["declared package-engines", "packages/engines/src/a.ts", 'import "@quartet/outbox";'],
  ["declared package-cli", "packages/cli/src/a.ts", 'import "@quartet/projection";'],
  ["package-unlisted", "packages/kit/src/a.ts", 'import "@quartet/contracts";'],
  ["folder-bench", "bench/a.ts", 'import "../chaos/a.ts";'],
  ["folder-chaos", "chaos/b.ts", 'import "../services/user/src/store/users.ts";'],
  ["folder-charts", "charts/a.ts", 'import "../test/lib/client.ts";'],
  ["folder-k8s", "k8s/a.ts", 'import "../charts/generate.ts";'],
  ["folder-test", "test/pattern/a.ts", 'import "../../services/user/src/store/users.ts";'],
  ["folder-test-long", "test/long/a.ts", 'import "../../bench/run.ts";'],
];

/** Files that break none. */
const KEEPS: [file: string, source: string][] = [
  ["chaos/circle-b.ts", 'import type { A } from "./circle-a.ts";'],
  ["bench/run.ts", 'import "../services/user/src/store/users.ts"; import { emit } from "@quartet/contracts";'],
  ["chaos/a.ts", 'import { choosePort } from "@quartet/engines";\nimport pg from "pg";'],
  ["charts/generate.ts", 'import { parse } from "yaml";'],
  ["packages/contracts/src/index.ts", 'import * as z from "zod";\nimport { readFileSync } from "node:fs";'],
  ["packages/contracts/src/testing.ts", 'import fc from "fast-check";'],
  ["packages/cli/src/main.ts", 'import { createEngine } from "@quartet/engines";'],
  ["packages/engines/src/index.ts", 'export * from "./testing.ts";'],
  ["packages/engines/src/testing.ts", 'import pg from "pg";'],
  ["packages/outbox/src/index.ts", 'import type pg from "pg";\nimport { connect } from "nats";'],
  ["packages/outbox/test/world.ts", 'import { createTestEngine } from "@quartet/engines";'],
  ["services/session/src/main.ts", 'import { listen } from "@quartet/service";'],
  ["services/user/src/store/users.ts", 'import pg from "pg";\nimport { emit } from "@quartet/contracts";'],
  ["services/user/src/events/relay.ts", 'import {} from "@quartet/outbox";\nimport "nats";'],
  [
    "services/user/test/world.ts",
    'import "../src/store/users.ts";\nimport { startService } from "@quartet/service/testing";',
  ],
  ["test/lib/client.ts", 'import type { Line } from "../../chaos/a.ts";'],
  ["test/long/size.ts", 'import "../../services/user/src/store/users.ts";'],
  ["test/some.test.ts", 'import { test } from "vitest";'],
];

/** The tree with these files beside the repository's own manifests and libraries. */
function plant(): string {
  const tree = mkdtempSync(join(tmpdir(), "quartet-imports-"));
  onTestFinished(() => rmSync(tree, { recursive: true }));
  symlinkSync(join(root, "node_modules"), join(tree, "node_modules"));
  for (const manifest of globSync("{.,packages/*,services/*}/package.json", { cwd: root })) {
    mkdirSync(dirname(join(tree, manifest)), { recursive: true });
    cpSync(join(root, manifest), join(tree, manifest));
  }
  mkdirSync(join(tree, "packages/kit"));
  writeFileSync(join(tree, "packages/kit/package.json"), '{"dependencies": {"@quartet/contracts": "*"}}');
  for (const [file, source] of [...BREAKS.map(([, file, source]) => [file, source] as const), ...KEEPS]) {
    mkdirSync(dirname(join(tree, file)), { recursive: true });
    writeFileSync(join(tree, file), source);
  }
  return tree;
}

test("each import rule refuses what breaks it, and nothing else", () => {
  const run = spawnSync(
    process.execPath,
    [
      join(root, "node_modules/dependency-cruiser/bin/dependency-cruiser.mjs"),
      "--config",
      join(root, ".dependency-cruiser.mjs"),
      ...["--output-type", "json"],
      ".",
    ],
    { cwd: plant(), encoding: "utf8", maxBuffer: 1 << 28 },
  );
  expect(run.stderr).toBe("");
  const { summary } = JSON.parse(run.stdout) as {
    summary: {
      violations: { from: string; rule: { name: string; severity: string } }[];
      ruleSetUsed: { forbidden: { name: string }[] };
    };
  };
  const broken = new Map<string, Set<string>>();
  for (const { from, rule } of summary.violations) {
    expect(rule.severity).toBe("error");
    broken.set(from, (broken.get(from) ?? new Set()).add(rule.name));
  }
  const lines = [...broken].map(([file, rules]) => `${file}: ${[...rules].sort().join(" ")}`);
  expect(lines.sort()).toEqual(BREAKS.map(([rules, file]) => `${file}: ${rules}`).sort());
  // A rule that no line breaks may be one that nothing can break.
  const tried = new Set(BREAKS.flatMap(([rules]) => rules.split(" ")));
  expect(summary.ruleSetUsed.forbidden.map((rule) => rule.name).filter((name) => !tried.has(name))).toEqual([]);
});

test("an import that the rules cannot see is refused", () => {
  const tree = mkdtempSync(join(tmpdir(), "quartet-imports-"));
  onTestFinished(() => rmSync(tree, { recursive: true }));
  for (const file of ["biome.json", "imports.grit"]) cpSync(join(root, file), join(tree, file));
  const file = "services/user/src/http/planted.ts";
  mkdirSync(dirname(join(tree, file)), { recursive: true });
  writeFileSync(
    join(tree, file),
    `type Pool = import("pg").Pool;
export type Connect = typeof import("nats").connect;
export async function load(name: string): Promise<Pool | import("ioredis").Redis> {
  await import(\`./\${name}.ts\`);
  await import(name);
  return await import("./seen.ts");
}
`,
  );
  const biome = join(root, "node_modules/@biomejs/biome/bin/biome");
  const run = spawnSync(process.execPath, [biome, "lint", "--colors=off", file], { cwd: tree, encoding: "utf8" });
  const found = [...run.stderr.matchAll(/planted\.ts:(\d+):\d+ plugin/g)].map(([, line]) => Number(line));
  expect(found, run.stderr).toEqual([1, 2, 3, 4, 5]);
  expect(run.status).not.toBe(0);
});
