import { randomBytes } from "node:crypto";
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { identify, isAlive, type ProcessIdentity } from "@quartet/engines";
import { UsageError } from "./client.ts";

/** What `<home>/run.json` tells the other commands about the running system. */
export interface RunFile {
  url: string;
  startedAt: string;
  launcher: number;
  engines: Record<string, { port: number; pid?: number; external?: boolean }>;
  services: Record<string, { port: number; adminPort: number; pid?: number }>;
}

/** Everything a run leaves in its home. `--fresh` removes these names and nothing else, whatever folder QUARTET_HOME names. */
const CONTENTS = ["data", "logs", "run", "run.json", "operator-token", "console-token", "credentials.json"];

const MAX_LOG_BYTES = 8 * 1024 * 1024;

function lockFile(home: string): string {
  return join(home, "launcher.lock");
}

/** The launcher that runs this home now, if any. */
export function runningLauncher(home: string): ProcessIdentity | undefined {
  try {
    const holder = JSON.parse(readFileSync(lockFile(home), "utf8")) as ProcessIdentity;
    return isAlive(holder) ? holder : undefined;
  } catch {
    return undefined;
  }
}

/** Takes the home for this process. Throws UsageError (one line) if another launcher runs on it. */
export function takeHome(home: string): void {
  mkdirSync(home, { recursive: true, mode: 0o700 });
  for (let attempt = 0; attempt < 3; attempt++) {
    const holder = runningLauncher(home);
    if (holder) {
      const url = readRunFile(home)?.url;
      throw new UsageError(
        `Quartet already runs here${url ? ` at ${url}` : ""} (process ${holder.pid}). Stop it with \`npm stop\`, or choose another QUARTET_HOME.`,
      );
    }
    rmSync(lockFile(home), { force: true });
    try {
      writeFileSync(lockFile(home), JSON.stringify(identify(process.pid)), { flag: "wx", mode: 0o600 });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
  throw new UsageError(`Another start is under way in ${home}.`);
}

export function leaveHome(home: string): void {
  rmSync(join(home, "run.json"), { force: true });
  rmSync(lockFile(home), { force: true });
}

/** Removes all data, credentials and logs of a home. */
export function wipeHome(home: string): void {
  for (const name of CONTENTS)
    rmSync(join(home, name), { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}

export function readRunFile(home: string): RunFile | undefined {
  try {
    return JSON.parse(readFileSync(join(home, "run.json"), "utf8")) as RunFile;
  } catch {
    return undefined;
  }
}

export function writeRunFile(home: string, run: RunFile): void {
  const file = join(home, "run.json");
  writeFileSync(`${file}.new`, `${JSON.stringify(run, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** The operator token of this home: `QUARTET_OPERATOR_TOKEN` if set, else the one made at the first start. Kept in a file of mode 600. */
export function operatorToken(home: string): string {
  return keptToken(join(home, "operator-token"), process.env.QUARTET_OPERATOR_TOKEN);
}

/** The token that lets the console act: `QUARTET_CONSOLE_TOKEN` if set, else the one made at the first start. Printed at every start. */
export function consoleToken(home: string): string {
  return keptToken(join(home, "console-token"), process.env.QUARTET_CONSOLE_TOKEN);
}

function keptToken(file: string, given: string | undefined): string {
  let token = given;
  if (!token) {
    try {
      token = readFileSync(file, "utf8").trim();
    } catch {
      // The first start.
    }
  }
  token ||= randomBytes(32).toString("base64url");
  writeFileSync(file, `${token}\n`, { mode: 0o600 });
  return token;
}

/**
 * Keeps every log of a home below a bound: a full one becomes `<name>.log.1` and starts again from nothing. The processes append, so they
 * go on writing at the new end.
 */
export function trimLogs(home: string): void {
  const folder = join(home, "logs");
  let files: string[];
  try {
    files = readdirSync(folder).filter((file) => file.endsWith(".log"));
  } catch {
    return;
  }
  for (const file of files) {
    const path = join(folder, file);
    if (statSync(path).size < MAX_LOG_BYTES) continue;
    copyFileSync(path, `${path}.1`);
    truncateSync(path);
  }
}
