import { setTimeout as sleep } from "node:timers/promises";
import { runFile } from "./system.ts";

export type Engine = "postgres" | "redis" | "clickhouse" | "elasticsearch" | "nats";

/** SIGKILLs a process of the local system; its supervisor starts it again. Returns its old pid. */
export function killOnce(kind: "engines" | "services", name: string): number {
  const { pid } = runFile()[kind][name] as { pid: number };
  process.kill(pid, "SIGKILL");
  return pid;
}

/**
 * Breaks one engine of the local system until the returned function heals it. `freeze` stops its processes; `kill` kills them as often as
 * the supervisor brings them back.
 */
export async function fault(engine: Engine, how: "freeze" | "kill"): Promise<() => Promise<void>> {
  const { tree, signalAll } = await import("./processes.ts");
  if (how === "freeze") {
    const pids = tree((runFile().engines[engine] as { pid: number }).pid);
    signalAll(pids, "SIGSTOP");
    return async () => signalAll(pids, "SIGCONT");
  }
  let over = false;
  const killer = (async () => {
    while (!over) {
      try {
        signalAll(tree((runFile().engines[engine] as { pid: number }).pid), "SIGKILL");
      } catch {
        // Between two lives it has no pid.
      }
      await sleep(20);
    }
  })();
  await sleep(50);
  return async () => {
    over = true;
    await killer;
  };
}
