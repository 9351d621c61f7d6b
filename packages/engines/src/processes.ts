import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * A process that cannot be mistaken for a later one with the same pid: `started` is the kernel's start time of the process
 * together with the boot it belongs to.
 */
export interface ProcessIdentity {
  pid: number;
  started: string;
}

interface ProcessRow {
  pid: number;
  ppid: number;
  state: string;
  started: string;
}

const LINUX = process.platform === "linux";

let bootId: string | undefined;

function boot(): string {
  bootId ??= readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return bootId;
}

/** Fields 3 (state), 4 (ppid) and 22 (start time) of /proc/PID/stat; the command name before them may hold spaces and brackets. */
function readLinux(pid: number): ProcessRow | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { pid, state: fields[0] ?? "", ppid: Number(fields[1]), started: `${boot()}:${fields[19]}` };
}

function parsePs(line: string): ProcessRow | undefined {
  const match = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(\S.*)$/.exec(line);
  if (!match) return undefined;
  return { pid: Number(match[1]), ppid: Number(match[2]), state: match[3]!, started: match[4]!.trimEnd() };
}

function readPs(arguments_: string[]): ProcessRow[] {
  try {
    const text = execFileSync("ps", [...arguments_, "-o", "pid=,ppid=,state=,lstart="], {
      encoding: "utf8",
      env: { ...process.env, LC_ALL: "C" },
      stdio: ["ignore", "pipe", "ignore"],
    });
    return text.split("\n").flatMap((line) => parsePs(line) ?? []);
  } catch {
    return [];
  }
}

function read(pid: number): ProcessRow | undefined {
  return LINUX ? readLinux(pid) : readPs(["-p", String(pid)])[0];
}

function readAll(): ProcessRow[] {
  if (!LINUX) return readPs(["-A"]);
  return readdirSync("/proc").flatMap((entry) => (/^\d+$/.test(entry) ? (readLinux(Number(entry)) ?? []) : []));
}

/** The identity of a living process, or undefined if there is none (a zombie counts as dead). */
export function identify(pid: number): ProcessIdentity | undefined {
  const row = read(pid);
  return row && !/^[ZX]/.test(row.state) ? { pid, started: row.started } : undefined;
}

/** Whether that very process still lives: same pid and same start time. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.started === identity.started;
}

/** Whether that process is frozen (SIGSTOP). */
export function isStopped(identity: ProcessIdentity): boolean {
  const row = read(identity.pid);
  return row?.started === identity.started && /^T/i.test(row.state);
}

/** A process and everything below it, the process itself first. */
function rows(root: number): ProcessRow[] {
  const all = readAll();
  const children = Map.groupBy(all, (row) => row.ppid);
  const found = all.filter((row) => row.pid === root);
  for (let i = 0; i < found.length; i++) found.push(...(children.get(found[i]!.pid) ?? []));
  return found;
}

/** Pids of a process and everything below it, the process itself first. */
export function tree(root: number): number[] {
  return rows(root).map((row) => row.pid);
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

const FREEZE_TIMEOUT_MS = 1_000;

/**
 * Stops (SIGSTOP) a process and everything below it. The kernel stops a process a moment after the signal, and until then it may fork: so this
 * looks again until all of them are stopped.
 */
export function freezeTree(identity: ProcessIdentity): number[] {
  if (!isAlive(identity)) return [];
  const deadline = Date.now() + FREEZE_TIMEOUT_MS;
  for (;;) {
    const members = rows(identity.pid);
    const running = members.filter((row) => !/^[TtZX]/.test(row.state));
    for (const row of running) send(row.pid, "SIGSTOP");
    // One that waits for the disk stops when it comes back; there is no need to wait for that.
    if (running.length === 0 || Date.now() > deadline) return members.map((row) => row.pid);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
  }
}

/** Continues (SIGCONT) a frozen process tree, the leaves first. */
export function thawTree(identity: ProcessIdentity): void {
  if (!isAlive(identity)) return;
  for (const pid of tree(identity.pid).reverse()) send(pid, "SIGCONT");
}

/** Kills (SIGKILL) a process and everything below it; frozen or not. */
export function killTree(identity: ProcessIdentity): void {
  for (const pid of freezeTree(identity)) send(pid, "SIGKILL");
}

/** Sends one signal to the root process alone, if it is still that process. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (isAlive(identity)) send(identity.pid, signal);
}

/** Waits until the process is gone. Returns false if it is still there after `timeoutMs`. */
export async function waitForDeath(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (isAlive(identity)) {
    if (Date.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}

function pidFile(home: string, name: string): string {
  return join(home, "run", `${name}.pid`);
}

/** Remembers a process of this home in `<home>/run/<name>.pid`, so that a later run can tell it from a stranger. */
export function writePidFile(home: string, name: string, identity: ProcessIdentity): void {
  mkdirSync(join(home, "run"), { recursive: true, mode: 0o700 });
  const file = pidFile(home, name);
  writeFileSync(`${file}.new`, `${JSON.stringify(identity)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** The process remembered under that name, whether it lives or not. */
export function readPidFile(home: string, name: string): ProcessIdentity | undefined {
  try {
    const value = JSON.parse(readFileSync(pidFile(home, name), "utf8")) as ProcessIdentity;
    return Number.isInteger(value.pid) && value.pid > 1 && typeof value.started === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}

export function removePidFile(home: string, name: string): void {
  rmSync(pidFile(home, name), { force: true });
}

/**
 * Ends what an earlier run of this home left behind: the processes its PID files name, if they are still the same processes.
 * They get SIGTERM, then SIGKILL (with all their children) after `graceMs`.
 * Returns the names of those that were still alive.
 */
export async function reapOrphans(
  home: string,
  options: { graceMs?: number; only?: string[] } = {},
): Promise<string[]> {
  let names: string[];
  try {
    names = readdirSync(join(home, "run")).flatMap((file) => (file.endsWith(".pid") ? [file.slice(0, -4)] : []));
  } catch {
    return [];
  }
  if (options.only) names = names.filter((name) => options.only?.includes(name));
  const reaped = await Promise.all(
    names.map(async (name) => {
      const identity = readPidFile(home, name);
      const alive = identity !== undefined && isAlive(identity);
      if (alive) {
        signalProcess(identity, "SIGTERM");
        thawTree(identity);
        if (!(await waitForDeath(identity, options.graceMs ?? 5_000))) {
          killTree(identity);
          await waitForDeath(identity, 5_000);
        }
      }
      removePidFile(home, name);
      return alive ? [name] : [];
    }),
  );
  return reaped.flat();
}
