import { globSync, readFileSync } from "node:fs";
import { dirname, join, posix, relative, resolve } from "node:path";

/**
 * The import rule of docs/architecture.md as a lint: `node packages/cli/src/boundaries.ts` prints `file:line  what  rule` for each import that
 * crosses a boundary, and exits with 1 if there is any.
 */

export interface Violation {
  file: string;
  line: number;
  /** What is imported, as written. */
  specifier: string;
  rule: string;
}

interface Import {
  line: number;
  /** Undefined where it is not a constant. */
  specifier: string | undefined;
}

/** Which of our packages a package's `src` may import. */
const PACKAGE_MAY: Record<string, string[]> = {
  contracts: [],
  service: ["contracts"],
  outbox: ["contracts"],
  projection: ["contracts"],
  engines: ["contracts"],
  cli: ["contracts", "engines"],
};

/** Libraries a package's `src` may import, where that is limited. `node:` modules are always allowed. */
const PACKAGE_LIBRARIES: Record<string, string[]> = {
  contracts: ["zod", "yaml"],
  outbox: ["nats", "pg", "ioredis"],
  projection: ["nats"],
};

/** What a service's `src` may import of ours: nothing that belongs to a developer's machine. */
const SERVICE_MAY = ["contracts", "service", "outbox", "projection"];

/** Imports that only one folder of a service may make. */
const DATABASE_CLIENTS = ["pg", "ioredis", "@clickhouse/client", "@elastic/elasticsearch"];
const EVENT_LIBRARIES = ["nats", "@quartet/outbox", "@quartet/projection"];

const COMMENTS_AND_STRINGS =
  // pattern: our own sources.
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'|`(?:\\[\s\S]|[^`\\])*`/g;

/** The source with comments, template literals and sentences blanked, at the same length, so that offsets and lines stay right. */
function blank(source: string): string {
  return source.replace(COMMENTS_AND_STRINGS, (text) => {
    // A string with a bracket names no module, but may quote an import.
    if ((text[0] === '"' || text[0] === "'") && !text.includes("(")) return text;
    const inner = text.replace(/[^\n]/g, " ");
    return text[0] === "/" ? inner : text[0] + inner.slice(1, -1) + text[0];
  });
}

// pattern: our own sources.
const STATIC = /^[ \t]*(?:import|export)\b[^;"'`()=]*?\bfrom\s*(["'])(.+?)\1|^[ \t]*import\s*(["'])(.+?)\3/gm;
// A method may be called `require` or be declared as `import()`; only with a constant is the first, only with an argument the second ours.
// pattern: our own sources.
const CALL = /(?<![.\w$])(?:require\s*\(\s*(?=["'])|import\s*\(\s*(?!\)))(?:(["'])(.+?)\1)?/g;

/** Every import of a source: `import`, `import type`, `export from`, `import()`, `require()`. */
export function scanImports(source: string): Import[] {
  const text = blank(source);
  const found: { at: number; specifier: string | undefined }[] = [];
  for (const match of text.matchAll(STATIC)) {
    const specifier = match[2] ?? match[4];
    found.push({ at: match.index + match[0].lastIndexOf(specifier!), specifier });
  }
  for (const match of text.matchAll(CALL)) found.push({ at: match.index, specifier: match[2] });
  return found
    .sort((a, b) => a.at - b.at)
    .map(({ at, specifier }) => ({ line: text.slice(0, at).split("\n").length, specifier }));
}

/** The library an import names: `pg` of `pg/lib/x`, `@a/b` of `@a/b/c`. */
function libraryOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

/** The rule that an import breaks, if any. `file` is relative to the repository, with forward slashes. */
function brokenRule(file: string, specifier: string | undefined): string | undefined {
  const [area, name = "", part, folder = ""] = file.split("/");
  const inService = area === "services";
  const inSource = part === "src";
  if (specifier === undefined) {
    return inSource ? "an import that cannot be checked: name the module by a constant string" : undefined;
  }
  if (specifier.startsWith("node:")) return undefined;
  if (specifier.startsWith(".")) {
    const target = posix.join(posix.dirname(file), specifier);
    if (target.startsWith(`${area}/${name}/`)) return undefined;
    const other = target.startsWith("services/") ? "a service" : "another package's inside";
    return `a relative import may not leave ${area}/${name} for ${other}: import the package by its name`;
  }
  const library = libraryOf(specifier);
  if (/^@quartet\/.+-service$/.test(library)) {
    return inService ? "a service imports no other service" : "a package imports no service";
  }
  if (!inSource) return undefined;
  if (inService) {
    if (library.startsWith("@quartet/") && !SERVICE_MAY.includes(library.slice("@quartet/".length))) {
      return `a service may import only ${SERVICE_MAY.join(", ")} of our packages`;
    }
    if (DATABASE_CLIENTS.includes(library) && folder !== "store") return "only store/ imports a database client";
    if (EVENT_LIBRARIES.includes(library) && folder !== "events")
      return "only events/ imports NATS, outbox or projection";
    return undefined;
  }
  if (library.startsWith("@quartet/")) {
    const may = PACKAGE_MAY[name];
    if (may && !may.includes(library.slice("@quartet/".length)) && library !== `@quartet/${name}`) {
      return `packages/${name} may import ${may.length > 0 ? `only ${may.join(", ")}` : "nothing"} of our packages`;
    }
    return undefined;
  }
  const libraries = PACKAGE_LIBRARIES[name];
  // What a package offers to tests of its users may need a test library.
  if (libraries && folder !== "testing.ts" && !libraries.includes(library))
    return `packages/${name} may import only ${libraries.join(", ")}`;
  return undefined;
}

/** Checks one file's text. `file` is relative to the repository, with forward slashes. */
export function checkSource(file: string, source: string): Violation[] {
  return scanImports(source).flatMap(({ line, specifier }) => {
    const rule = brokenRule(file, specifier);
    return rule ? [{ file, line, specifier: specifier ?? "import(...)", rule }] : [];
  });
}

/** Checks every source and test of the packages and services below `root`. */
export function checkBoundaries(root: string): { files: number; violations: Violation[] } {
  const files = globSync("{packages,services}/*/{src,test}/**/*.{ts,mts,js,mjs}", { cwd: root });
  const violations = files.sort().flatMap((file) => {
    return checkSource(file.replaceAll("\\", "/"), readFileSync(join(root, file), "utf8"));
  });
  return { files: files.length, violations };
}

if (import.meta.main) {
  const root = resolve(dirname(import.meta.filename), "../../..");
  const { files, violations } = checkBoundaries(root);
  for (const { file, line, specifier, rule } of violations) {
    console.error(`${relative(process.cwd(), join(root, file))}:${line}  "${specifier}"  ${rule}`);
  }
  if (violations.length > 0) process.exitCode = 1;
  else console.log(`Boundaries: ${files} files, no import crosses one.`);
}
