import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import {
  freezeTree,
  identify,
  killTree,
  type ProcessIdentity,
  removePidFile,
  signalProcess,
  thawTree,
  waitForDeath,
  writePidFile,
} from "./processes.ts";

/** How a process ended. `expected` if it was stopped or killed through its own object. */
export interface ProcessExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  expected: boolean;
}

/** What to run. */
export interface Launch {
  command: string[];
  /** The whole environment of the process. */
  env: NodeJS.ProcessEnv;
  cwd: string;
  /** Written to the standard input, which then stays open; without it there is none. */
  stdin?: Buffer;
}

/**
 * A long-running process of one home: with its PID file in `<home>/run`, its output in `<home>/logs/<name>.log`, in a session of its own
 * (a Ctrl-C in the terminal is for the launcher, which then stops its processes in order), and signals to its whole tree.
 */
export class ManagedProcess {
  readonly home: string;
  readonly name: string;
  #child: ChildProcess | undefined;
  #identity: ProcessIdentity | undefined;
  #frozen = false;
  #ending = false;
  #logStart = 0;
  #listeners = new Set<(exit: ProcessExit) => void>();

  constructor(home: string, name: string) {
    this.home = home;
    this.name = name;
  }

  get pid(): number | undefined {
    return this.#identity?.pid;
  }

  get running(): boolean {
    return this.#child !== undefined;
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  /** Calls `listener` whenever the process ends. Returns the function that ends this. */
  onExit(listener: (exit: ProcessExit) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Starts it. The promise rejects when the process ends, and never resolves. Throws if it could not be started at all. */
  async launch(launch: Launch): Promise<{ ended: Promise<never> }> {
    mkdirSync(join(this.home, "logs"), { recursive: true, mode: 0o700 });
    const log = openSync(join(this.home, "logs", `${this.name}.log`), "a", 0o600);
    let child: ChildProcess;
    try {
      this.#logStart = fstatSync(log).size;
      child = spawn(launch.command[0]!, launch.command.slice(1), {
        detached: true,
        stdio: [launch.stdin ? "pipe" : "ignore", log, log],
        cwd: launch.cwd,
        env: launch.env,
      });
    } finally {
      closeSync(log);
    }
    const ended = new Promise<never>((_, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => {
        reject(new Error(`${this.name} ended (${signal ?? code})`));
        this.#ended(child, code, signal);
      });
    });
    ended.catch(() => {});
    if (child.pid === undefined) await ended;
    this.#child = child;
    this.#ending = false;
    this.#frozen = false;
    this.#identity = identify(child.pid!);
    if (this.#identity) writePidFile(this.home, this.name, this.#identity);
    child.unref();
    if (launch.stdin && child.stdin) {
      child.stdin.on("error", () => {});
      child.stdin.write(launch.stdin);
      (child.stdin as Socket).unref();
    }
    return { ended };
  }

  #ended(child: ChildProcess, code: number | null, signal: NodeJS.Signals | null): void {
    if (this.#child !== child) return;
    const expected = this.#ending;
    this.#child = undefined;
    this.#identity = undefined;
    this.#frozen = false;
    removePidFile(this.home, this.name);
    for (const listener of this.#listeners) listener({ code, signal, expected });
  }

  async #untilEnded(timeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    while (this.#child && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 10));
    return this.#child === undefined;
  }

  /** Ends it by `signal`, thawed first; after `timeoutMs` by SIGKILL. */
  async stop(signal: NodeJS.Signals, timeoutMs: number): Promise<void> {
    const identity = this.#identity;
    if (!this.#child || !identity) return;
    this.#ending = true;
    signalProcess(identity, signal);
    this.thaw();
    if (!(await this.#untilEnded(timeoutMs))) await this.kill();
  }

  async kill(): Promise<void> {
    const identity = this.#identity;
    if (!this.#child || !identity) return;
    this.#ending = true;
    killTree(identity);
    await waitForDeath(identity, 10_000);
    await this.#untilEnded(10_000);
  }

  /** Kills it at once, without waiting: for the end of this process. */
  killNow(): void {
    if (this.#identity) killTree(this.#identity);
  }

  freeze(): void {
    if (!this.#identity) return;
    this.#frozen = true;
    freezeTree(this.#identity);
  }

  thaw(): void {
    if (!this.#identity) return;
    thawTree(this.#identity);
    this.#frozen = false;
  }

  /** What it has written since it was last started. */
  logSinceStart(): string {
    try {
      return readFileSync(join(this.home, "logs", `${this.name}.log`))
        .subarray(this.#logStart)
        .toString("utf8");
    } catch {
      return "";
    }
  }

  /** The last lines it has written since it was last started. */
  logTail(lines = 8): string {
    return this.logSinceStart().trimEnd().split("\n").slice(-lines).join("\n");
  }
}
