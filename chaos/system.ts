import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readRunFile } from "@quartet/cli/home";
import { choosePort } from "@quartet/engines";
import { STORES, type Store } from "./availability.ts";
import type { Injector } from "./inject/injector.ts";
import { LocalInjector } from "./inject/local.ts";
import { Wire } from "./inject/wire.ts";
import { localStores } from "./stores/local.ts";
import type { Stores } from "./stores/stores.ts";

/** A system that may be broken. */
export interface Target {
  url: string;
  operatorToken: string;
  injector: Injector;
  /** What the stores hold, read behind the services' backs; undefined where that cannot be done. */
  stores: Stores | undefined;
  /** Where its logs are, if they are files. */
  logs?: string;
  close(): Promise<void>;
}

const ROOT = join(import.meta.dirname, "..");
const READY_MS = 420_000;
const STOP_MS = 90_000;

/** Starts a system of its own: random ports, a folder of its own, every role a process, a wire to each store. `settings`: further environment. */
export async function startPrivateSystem(
  say: (line: string) => void,
  settings: Record<string, string>,
): Promise<Target> {
  const home = mkdtempSync(join(tmpdir(), "quartet-chaos-"));
  const port = await choosePort();
  const wires = {} as Record<Store, Wire>;
  const via: Record<string, string> = {};
  for (const store of STORES) {
    wires[store] = new Wire(() => {
      const engine = readRunFile(home)?.engines[store];
      return engine?.port ? { host: "127.0.0.1", port: engine.port } : undefined;
    });
    via[`QUARTET_VIA_${store.toUpperCase()}`] = `127.0.0.1:${await wires[store].listen()}`;
  }
  const env = {
    ...settings,
    ...process.env,
    ...via,
    QUARTET_HOME: home,
    QUARTET_PORTS: "random",
    QUARTET_ROLES: "split",
    QUARTET_PROJECTORS: "2",
    PORT: String(port),
  };
  let launcher = await launchAgain(env);
  const injector = new LocalInjector({
    home,
    wires,
    restart: async () => {
      await stop(launcher);
      launcher = await launchAgain(env);
    },
  });
  say(`a private system runs at http://127.0.0.1:${port}`);
  return {
    url: `http://127.0.0.1:${port}`,
    operatorToken: readFileSync(join(home, "operator-token"), "utf8").trim(),
    injector,
    stores: localStores(home),
    logs: join(home, "logs"),
    async close() {
      await injector.mendAll();
      await stop(launcher);
      for (const wire of Object.values(wires)) wire.close();
      if (!process.env.QUARTET_CHAOS_KEEP) rmSync(home, { recursive: true, force: true });
      else say(`kept: ${home}`);
    },
  };
}

/** A running local system that may be broken: QUARTET_HOME names its home. */
export function runningSystem(home: string): Target {
  const run = readRunFile(home);
  if (!run) throw new Error(`no system runs in ${home}`);
  return {
    url: process.env.QUARTET_URL ?? run.url,
    operatorToken: process.env.QUARTET_OPERATOR_TOKEN ?? readFileSync(join(home, "operator-token"), "utf8").trim(),
    injector: new LocalInjector({ home }),
    stores: localStores(home),
    logs: join(home, "logs"),
    close: async () => {},
  };
}

/** A random port may be taken by another system that starts at the same time: other ports, then. */
async function launchAgain(env: NodeJS.ProcessEnv): Promise<ChildProcess> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await launch(env);
    } catch (error) {
      if (attempt === 3 || !/EADDRINUSE|is taken/.test(String(error))) throw error;
    }
  }
}

async function launch(env: NodeJS.ProcessEnv): Promise<ChildProcess> {
  const launcher = spawn(process.execPath, ["packages/cli/src/main.ts", "start"], {
    cwd: ROOT,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`the system is not ready in time:\n${said}`)), READY_MS);
  const hear = (data: Buffer): void => {
    said = (said + data.toString()).slice(-8000);
    if (said.includes("Quartet is ready")) resolve();
  };
  launcher.stdout?.on("data", hear);
  launcher.stderr?.on("data", hear);
  launcher.once("exit", (code) => reject(new Error(`the launcher ended with ${code}:\n${said}`)));
  try {
    await promise;
    return launcher;
  } catch (error) {
    launcher.kill("SIGKILL");
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function stop(launcher: ChildProcess): Promise<void> {
  if (launcher.exitCode !== null || launcher.signalCode !== null) return;
  launcher.kill("SIGINT");
  const timer = setTimeout(() => launcher.kill("SIGKILL"), STOP_MS);
  await once(launcher, "exit");
  clearTimeout(timer);
}
