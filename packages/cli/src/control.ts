import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  freezeTree,
  isAlive,
  isStopped,
  killTree,
  type ProcessIdentity,
  readPidFile,
  thawTree,
  waitForDeath,
} from "@quartet/engines";

/**
 * Doing harm to the parts of a running local system, and mending it, from any process: by the PID files of its home. The supervisor restarts
 * what was killed, unless it is held down; it leaves alone what is frozen.
 */

export type PartState = "running" | "frozen" | "down" | "held";

function holdFile(home: string, name: string): string {
  return join(home, "run", `${name}.held`);
}

function living(home: string, name: string): ProcessIdentity | undefined {
  const identity = readPidFile(home, name);
  return identity && isAlive(identity) ? identity : undefined;
}

/** Whether a part is to stay down until it is revived. */
export function isHeld(home: string, name: string): boolean {
  return existsSync(holdFile(home, name));
}

/** The state of one engine or service. */
export function stateOf(home: string, name: string): PartState {
  const identity = living(home, name);
  if (!identity) return isHeld(home, name) ? "held" : "down";
  return isStopped(identity) ? "frozen" : "running";
}

/** SIGKILL to an engine or service and all its processes. With `hold` it stays down until `revive`. Returns once it is dead. */
export async function kill(home: string, name: string, options: { hold?: boolean } = {}): Promise<void> {
  if (options.hold) {
    mkdirSync(join(home, "run"), { recursive: true, mode: 0o700 });
    writeFileSync(holdFile(home, name), "");
  }
  const identity = living(home, name);
  if (!identity) return;
  killTree(identity);
  await waitForDeath(identity, 10_000);
}

/** SIGSTOP to an engine or service and all its processes: it keeps its connections and answers nothing. */
export function freeze(home: string, name: string): void {
  const identity = living(home, name);
  if (identity) freezeTree(identity);
}

/** Thaws what is frozen, and lets go what is held down: the supervisor then starts it. */
export function revive(home: string, name: string): void {
  rmSync(holdFile(home, name), { force: true });
  const identity = living(home, name);
  if (identity) thawTree(identity);
}

/** Forgets every hold of an earlier run. */
export function reviveAll(home: string): void {
  let files: string[];
  try {
    files = readdirSync(join(home, "run"));
  } catch {
    return;
  }
  for (const file of files) if (file.endsWith(".held")) rmSync(join(home, "run", file), { force: true });
}
