import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { expect, test } from "vitest";
import { checkBoundaries, checkSource, scanImports } from "../src/boundaries.ts";

const root = resolve(import.meta.dirname, "../../..");

function rules(file: string, source: string): string[] {
  return checkSource(file, source).map(({ line, specifier, rule }) => `${line} ${specifier}: ${rule}`);
}

test("finds every form of import, on its line, and nothing in comments or templates", () => {
  const source = `// import "comment-1";
/* export * from "comment-2"; */
import a from "one";
import {
  b,
  type C,
} from "two";
import type { D } from 'three';
export * from "four";
export { e } from "five";
import "six";
const late = await import("seven");
const url = "https://example.org/import('no')";
type F = import("eight").F;
const program = \`import x from "template";\`;
const old = require("nine");
const unknown = import(name);
const object = { from: "not-an-import" };
reader.import("no");
class Reader { require(): string {} import() {} }
export const value = { from: "no" };
`;
  expect(scanImports(source).map(({ line, specifier }) => `${line} ${specifier}`)).toEqual([
    "3 one",
    "7 two",
    "8 three",
    "9 four",
    "10 five",
    "11 six",
    "12 seven",
    "14 eight",
    "16 nine",
    "17 undefined",
  ]);
});

test("a service imports no service, by name or by path, in its tests neither", () => {
  const none = "a service imports no other service";
  expect(rules("services/user/src/main.ts", 'import "@quartet/session-service";')).toEqual([
    `1 @quartet/session-service: ${none}`,
  ]);
  expect(rules("services/user/test/a.test.ts", 'import "@quartet/session-service";')).toHaveLength(1);
  expect(rules("services/user/src/http/a.ts", 'export * from "../../../session/src/main.ts";')[0]).toContain(
    "may not leave",
  );
  expect(rules("services/user/src/http/a.ts", 'import "../store/a.ts";')).toEqual([]);
  expect(rules("services/user/test/a.test.ts", 'import { createTestEngine } from "@quartet/engines";')).toEqual([]);
  expect(rules("services/user/src/main.ts", 'import { createTestEngine } from "@quartet/engines";')).toHaveLength(1);
});

test("only store/ touches a database client, only events/ touches NATS, also by types and dynamically", () => {
  const database = "only store/ imports a database client";
  expect(rules("services/user/src/http/users.ts", 'import type pg from "pg";')).toEqual([`1 pg: ${database}`]);
  expect(rules("services/analytics/src/main.ts", '\nawait import("@clickhouse/client");')).toEqual([
    `2 @clickhouse/client: ${database}`,
  ]);
  expect(rules("services/user/src/store/users.ts", 'import pg from "pg";')).toEqual([]);
  expect(rules("services/user/src/store/users.ts", 'import { connect } from "nats";')).toHaveLength(1);
  expect(rules("services/user/src/main.ts", 'import {} from "@quartet/outbox";')).toHaveLength(1);
  expect(rules("services/user/src/events/relay.ts", 'import {} from "@quartet/outbox"; import "nats";')).toEqual([]);
});

test("packages import what their row of the table says", () => {
  expect(rules("packages/contracts/src/a.ts", 'import "express";')).toHaveLength(1);
  expect(rules("packages/outbox/src/a.ts", 'import "@quartet/service";')).toHaveLength(1);
  expect(rules("packages/outbox/src/a.ts", 'import "@quartet/contracts"; import "node:net"; import "pg";')).toEqual([]);
  expect(rules("packages/cli/src/a.ts", 'import "../../engines/src/index.ts";')[0]).toContain(
    "may not leave packages/cli",
  );
  expect(rules("packages/service/src/a.ts", "await import(name);")[0]).toContain("cannot be checked");
});

test("this repository keeps the rule", () => {
  const { files, violations } = checkBoundaries(root);
  expect(files).toBeGreaterThan(20);
  expect(violations).toEqual([]);
});

test("as a command it says what it looked at", () => {
  const run = spawnSync(process.execPath, ["packages/cli/src/boundaries.ts"], { cwd: root, encoding: "utf8" });
  expect(run.stderr).toBe("");
  expect(run.stdout).toMatch(/^Boundaries: \d+ files, no import crosses one\.$/m);
});
