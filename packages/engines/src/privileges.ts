import { spawnSync } from "node:child_process";
import { chownSync } from "node:fs";

/** Uid and gid taken where no user namespace can be had: nobody in particular, on every system. */
const UNPRIVILEGED_ID = 65534;

function works(command: string[]): boolean {
  return spawnSync(command[0]!, [...command.slice(1), "true"], { stdio: "ignore" }).status === 0;
}

const NAMESPACE = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"];
const CAPABILITY = [
  "setpriv",
  `--reuid=${UNPRIVILEGED_ID}`,
  `--regid=${UNPRIVILEGED_ID}`,
  "--clear-groups",
  "--inh-caps=+dac_override",
  "--ambient-caps=+dac_override",
  // Without it access(2), by which initdb looks for its own program, leaves the capability out of account.
  "--securebits=+no_setuid_fixup",
  "--",
];
const DIE_WITH_PARENT = ["setpriv", "--pdeathsig=KILL", "--"];

const probed = new Map<string[], boolean>();

function available(command: string[]): boolean {
  let answer = probed.get(command);
  if (answer === undefined) {
    answer = works(command);
    probed.set(command, answer);
  }
  return answer;
}

function isRoot(): boolean {
  return process.platform === "linux" && process.getuid?.() === 0;
}

/**
 * The words to put before a command of a server that refuses to run as root (PostgreSQL, Elasticsearch); none unless this process is
 * root. Preferred: a user namespace in which root's files belong to uid 1000, so that nothing has to change its owner. Else another
 * uid with the capability to pass closed folders.
 */
export function dropRoot(): string[] {
  if (!isRoot()) return [];
  if (available(NAMESPACE)) return NAMESPACE;
  if (available(CAPABILITY)) return CAPABILITY;
  throw new Error(
    "this server does not run as root, and neither unshare nor setpriv works here: start Quartet as another user",
  );
}

/** Gives a folder to the uid that `dropRoot` takes, where that is a real other uid (PostgreSQL insists on owning its data). */
export function ownForDroppedRoot(folder: string): void {
  if (isRoot() && dropRoot() === CAPABILITY) chownSync(folder, UNPRIVILEGED_ID, UNPRIVILEGED_ID);
}

/** The words that make the kernel end a command when its parent ends, however that comes; none where it is not possible. */
export function dieWithParent(): string[] {
  return process.platform === "linux" && available(DIE_WITH_PARENT) ? DIE_WITH_PARENT : [];
}
