import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { type Credentials, loadCredentials } from "./credentials.ts";
import { EngineStartError } from "./errors.ts";
import { fetchEngines } from "./fetch.ts";
import type { EngineName } from "./platform.ts";
import { choosePort, isPortFree } from "./ports.ts";
import { dieWithParent, dropRoot } from "./privileges.ts";
import {
  freezeTree,
  identify,
  isAlive,
  killTree,
  type ProcessIdentity,
  readPidFile,
  removePidFile,
  signalProcess,
  thawTree,
  waitForDeath,
  writePidFile,
} from "./processes.ts";

export interface EngineOptions {
  /** Folder of one Quartet installation: credentials, PID files, logs and, below `data/`, what the engines store. */
  home: string;
  /** Folder of this engine's data; default `<home>/data/<name>`. */
  dir?: string;
  /** Port to listen on, and no other. Default: the engine's usual port if it is free, else a free one; kept between restarts. */
  port?: number;
  /** Take a random free port rather than the engine's usual one. */
  randomPort?: boolean;
  /** The data may be lost with the machine: skips fsync where that makes the first start faster. For tests. */
  disposable?: boolean;
  /** Let the kernel kill the engine when this process ends, however it ends (Linux). For tests. */
  dieWithParent?: boolean;
}

/** How an engine's process ended. `expected` if `stop` or `kill` of this object ended it. */
export interface EngineExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  expected: boolean;
}

/** One real database or broker as a local process. */
export interface Engine {
  readonly name: EngineName;
  /** 0 until the first start unless given. */
  readonly port: number;
  readonly pid: number | undefined;
  readonly dir: string;
  readonly frozen: boolean;
  /** URL with the rights of an administrator: for tests and tools, never for a service. */
  readonly url: string;
  /** URL with the credential of one service (`user`, `session`, `analytics`, `search`). Throws if this engine is not that service's. */
  urlFor(service: string): string;
  /** Starts the server on its data and returns once it answers. Does nothing if it runs. Throws EngineStartError. */
  start(): Promise<void>;
  /** Ends it in order; kills it after its grace period. */
  stop(): Promise<void>;
  /** SIGKILL to the server and all its processes; returns once they are gone. */
  kill(): Promise<void>;
  /** SIGSTOP to the server and all its processes: connections stay open and nothing answers. */
  freeze(): void;
  /** SIGCONT: the opposite of `freeze`. */
  thaw(): void;
  /** Removes its data. Kills it first if it runs; start it again for an empty one. */
  wipe(): Promise<void>;
  /** Whether it answers an authenticated request within two seconds. */
  isReady(): Promise<boolean>;
  /** Calls `listener` whenever the process ends. Returns the function that stops it. */
  onExit(listener: (exit: EngineExit) => void): () => void;
}

/** What one engine adds to the common life cycle. */
export interface Launch {
  command: string[];
  env?: Record<string, string>;
  cwd?: string;
  /** Written to the standard input, which then stays open; without it there is none. */
  stdin?: Buffer;
}

const READY_POLL_MS = 50;
const PROBE_TIMEOUT_MS = 2_000;

/** Waits for `promise`, but no longer than `ms`. Returns what it rejected with, if it did. */
async function failure(promise: Promise<unknown>, ms: number): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Error>((resolve) => {
    timer = setTimeout(() => resolve(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise.then(() => undefined), late]);
  } catch (error) {
    return error;
  } finally {
    clearTimeout(timer);
  }
}

/** The common life cycle of all engines; what differs is in the subclasses. */
export abstract class LocalEngine implements Engine {
  abstract readonly name: EngineName;
  abstract readonly url: string;
  protected abstract readonly defaultPort: number;
  protected readonly startTimeoutMs: number = 60_000;
  protected readonly stopTimeoutMs: number = 15_000;
  protected readonly stopSignal: NodeJS.Signals = "SIGTERM";
  /** Whether the server refuses to run as root. */
  protected readonly refusesRoot: boolean = false;

  readonly options: EngineOptions;
  readonly credentials: Credentials;
  #port: number;
  #child: ChildProcess | undefined;
  #identity: ProcessIdentity | undefined;
  #frozen = false;
  #ending = false;
  #starting: Promise<void> | undefined;
  #logStart = 0;
  #startProblem: EngineStartError | undefined;
  #listeners = new Set<(exit: EngineExit) => void>();

  constructor(options: EngineOptions) {
    this.options = options;
    this.credentials = loadCredentials(options.home);
    this.#port = options.port ?? 0;
  }

  abstract urlFor(service: string): string;
  /** Writes configuration and first data. Called before every start; `folder` is the unpacked engine. */
  protected abstract prepare(folder: string): Promise<Launch>;
  /** Rejects unless the server answers an authenticated request; with an EngineStartError if it never will. */
  protected abstract probe(): Promise<void>;
  /** Accounts and databases that are made from inside the running server. Called after every start; idempotent. */
  protected async provision(): Promise<void> {}

  get dir(): string {
    return this.options.dir ?? join(this.options.home, "data", this.name);
  }

  get port(): number {
    return this.#port;
  }

  get pid(): number | undefined {
    return this.#identity?.pid;
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  get logFile(): string {
    return join(this.options.home, "logs", `${this.name}.log`);
  }

  onExit(listener: (exit: EngineExit) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  start(): Promise<void> {
    this.#starting ??= this.#start().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async #start(): Promise<void> {
    if (this.#child) return;
    const left = readPidFile(this.options.home, this.name);
    if (left && isAlive(left)) {
      throw new EngineStartError(`${this.name} of ${this.options.home} already runs as process ${left.pid}`, "");
    }
    const folder = (await fetchEngines([this.name]))[this.name];
    // A random port may be taken between our look and the server's; another one is as good, until others know ours.
    const mayMove = this.#port === 0;
    for (let attempt = 1; ; attempt++) {
      await this.#choosePort(mayMove);
      try {
        await this.#launch(folder);
        return;
      } catch (error) {
        const taken =
          mayMove && attempt < 3 && /address already in use|could not bind|Failed to bind/i.test(String(error));
        if (!taken) throw error;
        this.#port = 0;
      }
    }
  }

  async #choosePort(mayMove: boolean): Promise<void> {
    if (mayMove) this.#port = await choosePort(this.options.randomPort ? undefined : this.defaultPort);
    else if (!(await isPortFree(this.#port))) {
      throw new EngineStartError(`${this.name}: port ${this.#port} is taken (address in use)`, "");
    }
  }

  async #launch(folder: string): Promise<void> {
    mkdirSync(join(this.options.home, "logs"), { recursive: true, mode: 0o700 });
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    const { command, env, cwd, stdin } = await this.prepare(folder);
    const words = [...this.prefix(), ...command];
    const log = openSync(this.logFile, "a", 0o600);
    this.#logStart = fstatSync(log).size;
    let child: ChildProcess;
    try {
      child = spawn(words[0]!, words.slice(1), {
        // A session of its own: a Ctrl-C in the terminal is for the launcher, which then stops the engines in order.
        detached: true,
        stdio: [stdin ? "pipe" : "ignore", log, log],
        cwd: cwd ?? this.dir,
        env: { PATH: process.env.PATH, HOME: this.dir, LANG: "C.UTF-8", TZ: "UTC", ...env },
      });
    } finally {
      closeSync(log);
    }
    const exited = new Promise<never>((_, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => {
        const problem = `${this.name} ended (${signal ?? code}) before it was ready`;
        reject(this.#startProblem ?? new EngineStartError(problem, this.#logTail()));
        this.#ended(child, code, signal);
      });
    });
    exited.catch(() => {});
    if (child.pid === undefined) await exited;
    this.#child = child;
    this.#ending = false;
    this.#frozen = false;
    this.#startProblem = undefined;
    this.#identity = identify(child.pid!);
    if (this.#identity) writePidFile(this.options.home, this.name, this.#identity);
    child.unref();
    if (stdin && child.stdin) {
      child.stdin.on("error", () => {});
      child.stdin.write(stdin);
      (child.stdin as Socket).unref();
    }
    await Promise.race([this.#untilReady(), exited]);
    await Promise.race([this.provision(), exited]);
  }

  /** Words before the server's command: another user if this one is root, and the tie to this process's life. */
  protected prefix(): string[] {
    return [...(this.refusesRoot ? dropRoot() : []), ...(this.options.dieWithParent ? dieWithParent() : [])];
  }

  async #untilReady(): Promise<void> {
    const deadline = Date.now() + this.startTimeoutMs;
    while (this.#child) {
      const problem = this.#frozen ? new Error("frozen") : await failure(this.probe(), PROBE_TIMEOUT_MS);
      if (problem === undefined) return;
      if (problem instanceof EngineStartError) {
        this.#startProblem = problem;
        await this.kill();
        throw problem;
      }
      // A frozen engine is not late; it waits for the thaw.
      if (Date.now() > deadline && !this.#frozen) {
        const late = `${this.name} did not answer within ${this.startTimeoutMs / 1000} s`;
        this.#startProblem = new EngineStartError(late, this.#logTail());
        await this.kill();
        throw this.#startProblem;
      }
      await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
    }
  }

  #ended(child: ChildProcess, code: number | null, signal: NodeJS.Signals | null): void {
    if (this.#child !== child) return;
    const expected = this.#ending;
    this.#child = undefined;
    this.#identity = undefined;
    this.#frozen = false;
    removePidFile(this.options.home, this.name);
    for (const listener of this.#listeners) listener({ code, signal, expected });
  }

  async #untilEnded(timeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    while (this.#child && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 10));
    return this.#child === undefined;
  }

  async stop(): Promise<void> {
    const identity = this.#identity;
    if (!this.#child || !identity) return;
    this.#ending = true;
    this.thaw();
    signalProcess(identity, this.stopSignal);
    if (!(await this.#untilEnded(this.stopTimeoutMs))) await this.kill();
  }

  async kill(): Promise<void> {
    const identity = this.#identity;
    if (!this.#child || !identity) return;
    this.#ending = true;
    killTree(identity);
    await waitForDeath(identity, 10_000);
    await this.#untilEnded(10_000);
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

  async wipe(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  }

  async isReady(): Promise<boolean> {
    if (!this.#child || this.#frozen) return false;
    return (await failure(this.probe(), PROBE_TIMEOUT_MS)) === undefined;
  }

  /** Kills the processes at once, without waiting: for the end of this process. */
  killNow(): void {
    if (this.#identity) killTree(this.#identity);
  }

  /** What the server has written since it was last started. */
  protected logSinceStart(): string {
    try {
      return readFileSync(this.logFile).subarray(this.#logStart).toString("utf8");
    } catch {
      return "";
    }
  }

  #logTail(): string {
    return this.logSinceStart().trimEnd().split("\n").slice(-8).join("\n");
  }

  protected refuse(service: string): never {
    throw new Error(`service ${service} has no credential for ${this.name}`);
  }
}
