import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { ManagedProcess, type ProcessExit } from "@quartet/engines";

/** The repository: services are started from here, so that their command line reads `services/<name>/src/main.ts`. */
const ROOT = resolve(import.meta.dirname, "../../..");

export const SERVICE_NAMES = ["user", "session", "analytics", "search", "gateway"] as const;
export type ServiceName = (typeof SERVICE_NAMES)[number];

export const ROLES = ["api", "relay", "projector"] as const;
export type Role = (typeof ROLES)[number];

/** The roles each service has, where every role is a process of its own. */
export const SERVICE_ROLES: Record<ServiceName, readonly Role[]> = {
  user: ["api", "relay"],
  session: ["api", "relay", "projector"],
  analytics: ["api", "projector"],
  search: ["api", "projector"],
  gateway: ["api"],
};

/** Default public ports; `/readyz` is served 1000 above. */
export const SERVICE_PORTS: Record<ServiceName, number> = {
  gateway: 8080,
  user: 8081,
  session: 8082,
  analytics: 8083,
  search: 8084,
};

/** Old space of a service's V8 heap, MB: five of them have to fit beside five engines. `QUARTET_HEAP_MB` sets another, to try the charts' limits. */
const HEAP_MB = Number(process.env.QUARTET_HEAP_MB ?? 192);

const START_TIMEOUT_MS = 60_000;
// The services drain their requests on SIGTERM.
const STOP_TIMEOUT_MS = 15_000;

export interface ServiceOptions {
  home: string;
  port: number;
  adminPort: number;
  env: NodeJS.ProcessEnv;
  /** One role alone; absent: all of them. The process that serves the API has the service's own name, the others `<service>-<role>`. */
  role?: Role;
  /** Which replica of the role this is; 1 if absent. */
  replica?: number;
}

/** Thrown when a service ended before it answered, or did not answer in time; carries the end of its log. */
export class ServiceStartError extends Error {
  override readonly name = "ServiceStartError";
}

/** One service as a local process, with the life cycle of an engine. */
export class ServiceProcess {
  readonly name: string;
  readonly #service: ServiceName;
  readonly port: number;
  readonly adminPort: number;
  readonly #env: NodeJS.ProcessEnv;
  readonly #process: ManagedProcess;

  constructor(name: ServiceName, options: ServiceOptions) {
    const { role, replica = 1 } = options;
    this.#service = name;
    this.name = role === undefined || role === "api" ? name : `${name}-${role}${replica > 1 ? `-${replica}` : ""}`;
    this.port = options.port;
    this.adminPort = options.adminPort;
    this.#env = role === undefined ? options.env : { ...options.env, ROLE: role };
    this.#process = new ManagedProcess(options.home, this.name);
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

  /** Starts it and returns once it is alive; whether its store is there is another question (`isReady`). */
  async start(): Promise<void> {
    if (this.#process.running) return;
    const main = `services/${this.#service}/src/main.ts`;
    if (!existsSync(join(ROOT, main))) throw new ServiceStartError(`${main} does not exist`);
    const { ended } = await this.#process.launch({
      command: [process.execPath, `--max-old-space-size=${HEAP_MB}`, main],
      cwd: ROOT,
      env: { ...this.#env, HOST: "127.0.0.1", PORT: String(this.port), ADMIN_PORT: String(this.adminPort) },
    });
    const deadline = Date.now() + START_TIMEOUT_MS;
    const early = ended.catch((error) => {
      throw new ServiceStartError(`${error.message} before it was alive\n${this.#process.logTail(4)}`);
    });
    early.catch(() => {});
    while (!(await Promise.race([this.#answers("/livez"), early]))) {
      if (Date.now() > deadline && !this.frozen) {
        await this.kill();
        throw new ServiceStartError(`${this.name} did not answer within ${START_TIMEOUT_MS / 1000} s`);
      }
      await Promise.race([new Promise((resolve) => setTimeout(resolve, 100)), early]);
    }
  }

  async #answers(path: string): Promise<boolean> {
    try {
      const url = `http://127.0.0.1:${this.adminPort}${path}`;
      const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
      await response.body?.cancel();
      return response.ok;
    } catch {
      return false;
    }
  }

  /** Whether it serves: alive, and its own store reachable. */
  isReady(): Promise<boolean> {
    return this.#answers("/readyz");
  }

  /** Whether it answers at all, whatever its store does. */
  isAlive(): Promise<boolean> {
    return this.#answers("/livez");
  }

  stop(): Promise<void> {
    return this.#process.stop("SIGTERM", STOP_TIMEOUT_MS);
  }

  kill(): Promise<void> {
    return this.#process.kill();
  }

  killNow(): void {
    this.#process.killNow();
  }

  freeze(): void {
    this.#process.freeze();
  }

  thaw(): void {
    this.#process.thaw();
  }
}
