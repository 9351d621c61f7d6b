import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it } from "vitest";
import { client, home } from "../lib/system.ts";

const ROOT = join(import.meta.dirname, "../..");

interface Step {
  section: string;
  command: string;
  expected: string;
}

/** The commands of a page's `console` blocks and what each is said to answer. */
function stepsOf(page: string): Step[] {
  const steps: Step[] = [];
  let section = "";
  let inside = false;
  for (const line of page.split("\n")) {
    if (line.startsWith("#")) section = inside ? section : line.replace(/^#+ /, "");
    if (line.startsWith("```")) inside = line === "```console";
    else if (inside && line.startsWith("$ ")) steps.push({ section, command: line.slice(2), expected: "" });
    else if (inside) steps.at(-1)!.expected += `${line}\n`;
  }
  return steps;
}

/** One shell for the whole page, as its reader has. */
function openShell(): { run(command: string): Promise<string>; close(): void } {
  const shell = spawn("bash", [], {
    cwd: ROOT,
    env: {
      ...process.env,
      QUARTET_URL: client.url,
      QUARTET_OPERATOR_TOKEN: client.operatorToken,
      PATH: `${ROOT}/node_modules/.bin:${process.env.PATH}`,
    },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const END = "::end of the command::";
  let lines: string[] = [];
  let done: (output: string) => void = () => {};
  createInterface(shell.stdout).on("line", (line) => {
    if (line !== END) lines.push(line);
    else done(lines.join("\n"));
  });
  shell.stderr.on("data", (data) => lines.push(`[stderr] ${String(data).trim()}`));
  return {
    run(command) {
      lines = [];
      return new Promise((resolve) => {
        done = resolve;
        shell.stdin.write(`${command}\necho; echo '${END}'\n`);
      });
    },
    close: () => void shell.stdin.end(),
  };
}

/** `…` stands for anything within a line. */
function pattern(expected: string): RegExp {
  const literal = expected
    .trim()
    .split("…")
    .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${literal.join("[^\\n]*")}$`);
}

/** Asked for by QUARTET_TOUR: it breaks a store of the system under test, and runs other tests. */
describe.skipIf(!home || !process.env.QUARTET_TOUR)("docs/pattern.md", () => {
  it("answers what the page says", { timeout: 400_000 }, async () => {
    const shell = openShell();
    try {
      for (const { section, command, expected } of stepsOf(readFileSync(join(ROOT, "docs/pattern.md"), "utf8"))) {
        const output = (await shell.run(command))
          .split("\n")
          .filter((line) => !line.startsWith("[stderr] npm warn"))
          .join("\n")
          .trim();
        expect(output, `${section}: ${command}`).toMatch(pattern(expected));
      }
    } finally {
      shell.close();
    }
  });
});
