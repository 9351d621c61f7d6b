import { globSync, readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join, resolve } from "node:path";
import { type Literal, parse } from "acorn";
import { full } from "acorn-walk";
import { check } from "recheck";

/**
 * The rule that no pattern takes more than linear time, as a lint: `node packages/cli/src/patterns.ts` asks recheck about every regular expression literal of
 * every package and service, prints `file:line  pattern  why` for each that is not safe or that it cannot tell of, and exits with 1 if there is any.
 * `// pattern: REASON` on the line, or on the one above it, excuses one, for instance because no byte from outside reaches it.
 */

/** So long may one question take, on a busy machine too; recheck does not always keep its own limit. */
const MOST_MS = 20_000;

interface Pattern {
  file: string;
  line: number;
  source: string;
  flags: string;
}

const EXCUSE = "// pattern: ";

/** The literals of a source that nothing excuses. */
export function patternsOf(file: string, text: string): Pattern[] {
  const lines = text.split("\n");
  const excused = (line: number): boolean => {
    const before = lines[line - 2]?.trim() ?? "";
    return [lines[line - 1], before.startsWith(EXCUSE) ? before : ""].some(
      (said) => (said?.split(EXCUSE)[1] ?? "") !== "",
    );
  };
  const found: Pattern[] = [];
  const program = parse(stripTypeScriptTypes(text), { ecmaVersion: "latest", sourceType: "module", locations: true });
  full(program, (node) => {
    const { regex, loc } = node as Literal;
    const line = loc?.start.line ?? 0;
    if (node.type === "Literal" && regex && !excused(line))
      found.push({ file, line, source: regex.pattern, flags: regex.flags });
  });
  return found;
}

/**
 * Why a pattern may take more than linear time; undefined if it does not. A pattern that is matched again and again (`g`) is also tried as such: each attempt
 * may be linear and all of them together not, as when each quotation mark of `"\"\"\"` begins a string that does not end.
 */
export async function faultOf({ source, flags }: Pattern): Promise<string | undefined> {
  const once = await ask(source, flags.replace(/[gy]/g, ""));
  if (once !== undefined || !flags.includes("g")) return once;
  const again = await ask(`^(?:(?=(?<taken>(?:${source})|[^]))\\k<taken>)*$`, flags.replace(/[gy]/g, ""));
  return again && `matched again and again: ${again}`;
}

async function ask(source: string, flags: string): Promise<string | undefined> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), MOST_MS);
  const told = new Promise<string>((resolve) => {
    late.signal.addEventListener("abort", () => resolve(`cannot be told in ${MOST_MS} ms`));
  });
  const asked = check(source, flags, { timeout: MOST_MS - 2000, signal: late.signal }).then(
    (answer) => {
      if (answer.status === "safe") return undefined;
      if (answer.status === "unknown") return `cannot be told: ${answer.error.kind}`;
      return `${answer.complexity.summary}, as for ${answer.attack.pattern.slice(0, 80)}`;
    },
    (error: unknown) => `cannot be told: ${String(error)}`,
  );
  return Promise.race([asked, told]).finally(() => clearTimeout(timer));
}

async function main(): Promise<void> {
  const root = resolve(import.meta.dirname, "../../..");
  const files = globSync("{packages,services}/*/src/**/*.ts", { cwd: root }).sort();
  const patterns = files.flatMap((file) => patternsOf(file, readFileSync(join(root, file), "utf8")));
  const faults = new Map<string, string | undefined>();
  let bad = 0;
  for (const pattern of patterns) {
    const key = `/${pattern.source}/${pattern.flags}`;
    if (!faults.has(key)) faults.set(key, await faultOf(pattern));
    const fault = faults.get(key);
    if (fault === undefined) continue;
    bad++;
    console.log(`${pattern.file}:${pattern.line}  ${key.slice(0, 100)}  ${fault}`);
  }
  console.log(`Patterns: ${patterns.length}, ${bad === 0 ? "all linear" : `${bad} not known to be linear`}.`);
  // Its agent goes on otherwise.
  process.exit(bad === 0 ? 0 : 1);
}

if (import.meta.main) await main();
