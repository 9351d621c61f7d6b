import { freeze, kill, revive } from "@quartet/cli/control";
import { home, runFile } from "./system.ts";

export type Engine = "postgres" | "redis" | "clickhouse" | "elasticsearch" | "nats";

/** SIGKILLs a part of the local system; its supervisor starts it again. Returns its old pid. */
export async function killOnce(kind: "engines" | "services", name: string): Promise<number> {
  const { pid } = runFile()[kind][name] as { pid: number };
  await kill(home as string, name);
  return pid;
}

/** Breaks one engine of the local system until the returned function heals it: frozen, or killed and held down. */
export async function fault(engine: Engine, how: "freeze" | "kill"): Promise<() => Promise<void>> {
  if (how === "freeze") freeze(home as string, engine);
  else await kill(home as string, engine, { hold: true });
  return async () => revive(home as string, engine);
}
