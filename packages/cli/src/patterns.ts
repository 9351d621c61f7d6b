import { globSync, readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join, resolve } from "node:path";
import {
  type AnyNode,
  type Pattern as Binding,
  type Expression,
  type Literal,
  type NewExpression,
  parse,
  type VariableDeclaration,
} from "acorn";
import { fullAncestor } from "acorn-walk";
import { check } from "recheck";

/**
 * The rule that no pattern takes more than linear time, as a lint: `node packages/cli/src/patterns.ts` asks recheck about every regular expression of every
 * package and service, prints `file:line  pattern  why` for each that is not safe or that it cannot tell of, and exits with 1 if there is any. A literal is
 * looked at as it stands, `new RegExp(...)` as what its constants make of it; where anything else goes in, it has to go through `RegExp.escape`.
 * `// pattern: REASON` on the line, or on the one above it, excuses one, for instance because no byte from outside reaches it.
 */

/** So long may one question take, on a busy machine too; recheck does not always keep its own limit. */
const MOST_MS = 20_000;

interface Pattern {
  file: string;
  line: number;
  source: string;
  flags: string;
  /** It is made when the program runs: of what, nobody knows here. */
  unknown?: true;
}

const EXCUSE = "// pattern: ";

/** The patterns of a source that nothing excuses; one that may be several things by its constants is each of them. */
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
  fullAncestor(program, (node, _state, ancestors) => {
    const line = node.loc?.start.line ?? 0;
    if (excused(line)) return;
    const { regex } = node as Literal;
    if (node.type === "Literal" && regex) found.push({ file, line, source: regex.pattern, flags: regex.flags });
    if (!makesPattern(node as AnyNode)) return;
    const [source, flags] = (node as NewExpression).arguments as Expression[];
    const around = ancestors.slice(0, -1) as AnyNode[];
    const sources = source && textsOf(source, around);
    const allFlags = flags ? textsOf(flags, around) : [""];
    if (sources && allFlags)
      for (const one of sources) for (const flags of allFlags) found.push({ file, line, source: one, flags });
    else found.push({ file, line, source: text.slice(node.start, node.end), flags: "", unknown: true });
  });
  return found;
}

const makesPattern = (node: AnyNode): boolean =>
  (node.type === "NewExpression" || node.type === "CallExpression") &&
  node.callee.type === "Identifier" &&
  node.callee.name === "RegExp";

/** More than these are not made of one pattern. */
const MOST_TEXTS = 64;

/** All texts that an expression may be, by what stands in the source; undefined if anything in it is known only when it runs. `around` are the nodes it is in. */
function textsOf(node: Expression, around: AnyNode[]): string[] | undefined {
  const joined = (parts: (string[] | undefined)[]): string[] | undefined =>
    parts.reduce<string[] | undefined>(
      (done, part) => {
        const all = part && done?.flatMap((before) => part.map((text) => before + text));
        return all && all.length <= MOST_TEXTS ? all : undefined;
      },
      [""],
    );
  switch (node.type) {
    case "Literal":
      if (node.regex) return [node.regex.pattern];
      return typeof node.value === "string" || typeof node.value === "number" ? [String(node.value)] : undefined;
    case "TemplateLiteral":
      return joined(
        node.quasis.flatMap((quasi, i) => {
          const next = node.expressions[i];
          return [[quasi.value.cooked ?? ""], ...(next ? [textsOf(next, around)] : [])];
        }),
      );
    case "BinaryExpression":
      if (node.operator !== "+" || node.left.type === "PrivateIdentifier") return undefined;
      return joined([textsOf(node.left, around), textsOf(node.right, around)]);
    case "ConditionalExpression": {
      const either = [textsOf(node.consequent, around), textsOf(node.alternate, around)];
      return either[0] && either[1] && [...either[0], ...either[1]];
    }
    case "Identifier":
      return textsOfName(node.name, around);
    case "MemberExpression": {
      const { object, property } = node;
      const isSource = property.type === "Identifier" && property.name === "source" && object.type !== "Super";
      return isSource ? textsOf(object, around) : undefined;
    }
    case "CallExpression":
      // Whatever it is, it is only that: no part of it repeats.
      return isEscape(node.callee) ? ["escaped"] : undefined;
    default:
      return undefined;
  }
}

const isEscape = (callee: AnyNode): boolean =>
  callee.type === "MemberExpression" &&
  callee.object.type === "Identifier" &&
  callee.object.name === "RegExp" &&
  callee.property.type === "Identifier" &&
  callee.property.name === "escape";

/** What a name is where it stands: the innermost declaration counts, and is known if it is a `const` of what is known. */
function textsOfName(name: string, around: AnyNode[]): string[] | undefined {
  for (let i = around.length - 1; i >= 0; i--) {
    const scope = around[i] as AnyNode;
    const inner = "body" in scope && Array.isArray(scope.body) ? (scope.body as AnyNode[]) : [];
    const statements = inner.map((s) => (s.type === "ExportNamedDeclaration" && s.declaration ? s.declaration : s));
    for (const statement of statements) {
      const declarator = (statement as VariableDeclaration).declarations?.find(({ id }) => binds(id, name));
      if (declarator) {
        const known = (statement as VariableDeclaration).kind === "const" && declarator.id.type === "Identifier";
        return known && declarator.init ? textsOf(declarator.init, around.slice(0, i + 1)) : undefined;
      }
      if ("id" in statement && statement.id?.type === "Identifier" && statement.id.name === name) return undefined;
      if (statement.type === "ImportDeclaration" && statement.specifiers.some(({ local }) => local.name === name))
        return undefined;
    }
    if ("params" in scope && (scope.params as Binding[]).some((param) => binds(param, name))) return undefined;
    const head = "left" in scope ? scope.left : "init" in scope ? scope.init : undefined;
    if (head?.type === "VariableDeclaration" && head.declarations.some(({ id }) => binds(id, name))) return undefined;
    if (scope.type === "CatchClause" && scope.param && binds(scope.param, name)) return undefined;
  }
  return undefined;
}

/** Whether a pattern of names gives one its value. */
function binds(binding: Binding, name: string): boolean {
  switch (binding.type) {
    case "Identifier":
      return binding.name === name;
    case "ObjectPattern":
      return binding.properties.some((p) => binds(p.type === "RestElement" ? p.argument : p.value, name));
    case "ArrayPattern":
      return binding.elements.some((element) => element !== null && binds(element, name));
    case "RestElement":
      return binds(binding.argument, name);
    case "AssignmentPattern":
      return binds(binding.left, name);
    default:
      return false;
  }
}

/**
 * Why a pattern may take more than linear time; undefined if it does not. A pattern that is matched again and again (`g`) is also tried as such: each attempt
 * may be linear and all of them together not, as when each quotation mark of `"\"\"\"` begins a string that does not end.
 */
export async function faultOf({ source, flags, unknown }: Pattern): Promise<string | undefined> {
  if (unknown) return "is made of what is not known here: RegExp.escape it, or say why it is linear";
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
