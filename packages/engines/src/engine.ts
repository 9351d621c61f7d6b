import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Credentials, loadCredentials } from "./credentials.ts";
import { EngineStartError } from "./errors.ts";
import { fetchEngines } from "./fetch.ts";
import { ManagedProcess, type ProcessExit } from "./managed.ts";
import type { EngineName } from "./platform.ts";
import { choosePort, isPortFree } from "./ports.ts";
import { dieWithParent, dropRoot } from "./privileges.ts";
import { identify, isAlive, killTree, readPidFile } from "./processes.ts";

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
  /** The same without waiting: for the end of this process. */
  killNow(): void;
  /** SIGSTOP to the server and all its processes: connections stay open and nothing answers. */
  freeze(): void;
  /** SIGCONT: the opposite of `freeze`. */
  thaw(): void;
  /** Removes its data. Kills it first if it runs; start it again for an empty one. */
  wipe(): Promise<void>;
  /** Whether it answers an authenticated request within two seconds. */
  isReady(): Promise<boolean>;
  /** Calls `listener` whenever the process ends. Returns the function that stops it. */
  onExit(listener: (exit: ProcessExit) => void): () => void;
}

/** What one engine adds to the common life cycle. */
export interface EngineLaunch {
  command: string[];
  env?: Record<string, string>;
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
  readonly #process: ManagedProcess;
  #port: number;
  #starting: Promise<void> | undefined;
  #cancelled = false;
  #helper: ChildProcess | undefined;

  constructor(name: EngineName, options: EngineOptions) {
    this.options = options;
    this.credentials = loadCredentials(options.home);
    this.#process = new ManagedProcess(options.home, name);
    this.#port = options.port ?? 0;
  }

  abstract urlFor(service: string): string;
  /** Writes configuration and first data. Called before every start; `folder` is the unpacked engine. */
  protected abstract prepare(folder: string): Promise<EngineLaunch>;
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
    return this.#process.pid;
  }

  get frozen(): boolean {
    return this.#process.frozen;
  }

  onExit(listener: (exit: ProcessExit) => void): () => void {
    return this.#process.onExit(listener);
  }

  start(): Promise<void> {
    if (!this.#starting) this.#cancelled = false;
    this.#starting ??= this.#start().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async #start(): Promise<void> {
    if (this.#process.running) return;
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
        // Our process has ended by now: whoever listens on the port is somebody else. (Not every engine says so in its last lines.)
        const taken =
          /address already in use|could not bind|Failed to bind/i.test(String(error)) ||
          !(await isPortFree(this.#port));
        if (!(taken && mayMove && attempt < 3)) throw error;
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
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    this.#checkCancelled();
    const { command, env, stdin } = await this.prepare(folder);
    this.#checkCancelled();
    const { ended } = await this.#process.launch({
      command: [...this.prefix(), ...command],
      env: { PATH: process.env.PATH, HOME: this.dir, LANG: "C.UTF-8", TZ: "UTC", ...env },
      cwd: this.dir,
      ...(stdin ? { stdin } : {}),
    });
    let settled = false;
    const early = ended.catch((error) => {
      throw new EngineStartError(`${error.message} before it was ready`, this.#process.logTail());
    });
    early.catch(() => {});
    try {
      await Promise.race([this.#untilReady(() => settled), early]);
      await Promise.race([this.provision(), early]);
    } catch (error) {
      settled = true;
      // One that runs but will not serve is of no use.
      if (this.#process.running) await this.#process.kill();
      throw error;
    }
  }

  #checkCancelled(): void {
    if (this.#cancelled) throw new EngineStartError(`${this.name} was stopped during its start`, "");
  }

  /**
   * Runs a program that prepares a start (initdb and the like) and returns what it printed. It ends with this process, and with `stop` and `kill`.
   * Throws EngineStartError with the end of its error output.
   */
  protected helper(command: string[], env: NodeJS.ProcessEnv, cwd: string): Promise<Buffer> {
    const words = [...(this.refusesRoot ? dropRoot() : []), ...dieWithParent(), ...command];
    return new Promise((resolve, reject) => {
      const child = spawn(words[0]!, words.slice(1), { stdio: ["ignore", "pipe", "pipe"], env, cwd });
      this.#helper = child;
      const out: Buffer[] = [];
      let said = "";
      child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
      child.stderr.on("data", (chunk: Buffer) => {
        said = (said + chunk.toString()).slice(-2_000);
      });
      child.once("error", reject);
      child.once("close", (code, signal) => {
        this.#helper = undefined;
        if (code === 0) return resolve(Buffer.concat(out));
        reject(
          new EngineStartError(`${this.name}: the preparation of its start ended with ${signal ?? code}`, said.trim()),
        );
      });
    });
  }

  /** Ends a start under way before its server is launched. */
  async #cancelStart(): Promise<void> {
    this.#cancelled = true;
    const helper = this.#helper;
    if (!helper?.pid) return;
    const identity = identify(helper.pid);
    if (identity) killTree(identity);
    await this.#starting?.catch(() => {});
  }

  /** Words before the server's command: another user if this one is root, and the tie to this process's life. */
  protected prefix(): string[] {
    return [...(this.refusesRoot ? dropRoot() : []), ...(this.options.dieWithParent ? dieWithParent() : [])];
  }

  /** Polls until it answers. Throws EngineStartError if it is late or says that it never will. */
  async #untilReady(givenUp: () => boolean): Promise<void> {
    const deadline = Date.now() + this.startTimeoutMs;
    while (!givenUp()) {
      const problem = this.frozen ? new Error("frozen") : await failure(this.probe(), PROBE_TIMEOUT_MS);
      if (problem === undefined) return;
      if (problem instanceof EngineStartError) throw problem;
      // A frozen engine is not late; it waits for the thaw.
      if (Date.now() > deadline && !this.frozen) {
        const seconds = this.startTimeoutMs / 1000;
        throw new EngineStartError(`${this.name} did not answer within ${seconds} s`, this.#process.logTail());
      }
      await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
    }
  }

  async stop(): Promise<void> {
    await this.#cancelStart();
    await this.#process.stop(this.stopSignal, this.stopTimeoutMs);
  }

  async kill(): Promise<void> {
    await this.#cancelStart();
    await this.#process.kill();
  }

  killNow(): void {
    this.#cancelled = true;
    this.#helper?.kill("SIGKILL");
    this.#process.killNow();
  }

  freeze(): void {
    this.#process.freeze();
  }

  thaw(): void {
    this.#process.thaw();
  }

  async wipe(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  }

  async isReady(): Promise<boolean> {
    if (!this.#process.running || this.frozen) return false;
    return (await failure(this.probe(), PROBE_TIMEOUT_MS)) === undefined;
  }

  protected logSinceStart(): string {
    return this.#process.logSinceStart();
  }

  protected refuse(service: string): never {
    throw new Error(`service ${service} has no credential for ${this.name}`);
  }
}
