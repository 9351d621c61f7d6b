import { type ChildProcess, spawn } from "node:child_process";
import { client } from "./system.ts";

const root = new URL("../..", import.meta.url).pathname;

export interface Command {
  child: ChildProcess;
  done: Promise<{ code: number | null; output: string }>;
}

/** Runs one of the commands (`npm run <name> -- <args>`) against the system under test. */
export function command(name: string, ...args: string[]): Command {
  return commandOn(client, name, ...args);
}

/** The same against any system. */
export function commandOn(
  { url, operatorToken }: { url: string; operatorToken: string },
  name: string,
  ...args: string[]
): Command {
  const child = spawn(process.execPath, ["packages/cli/src/main.ts", name, ...args], {
    cwd: root,
    env: { ...process.env, QUARTET_URL: url, QUARTET_OPERATOR_TOKEN: operatorToken },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  child.stdout?.on("data", (data: Buffer) => (output += data));
  child.stderr?.on("data", (data: Buffer) => (output += data));
  return { child, done: new Promise((done) => child.on("exit", (code) => done({ code, output }))) };
}
