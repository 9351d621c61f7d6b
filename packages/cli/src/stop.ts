import { isAlive, reapOrphans, signalProcess, waitForDeath } from "@quartet/engines";
import { homeFolder, UsageError } from "./client.ts";
import { leaveHome, runningLauncher } from "./home.ts";

const TIMEOUT_MS = 90_000;

/** `npm stop`: asks the running system of this home to stop and waits for it; ends what a killed launcher left behind. */
export async function main(args: string[]): Promise<void> {
  if (args.length > 0) throw new UsageError("Usage: npm stop");
  const home = homeFolder();
  const launcher = runningLauncher(home);
  if (launcher) {
    signalProcess(launcher, "SIGTERM");
    await waitForDeath(launcher, TIMEOUT_MS);
    if (isAlive(launcher))
      throw new UsageError(`Process ${launcher.pid} has not stopped within ${TIMEOUT_MS / 1000} s.`);
  }
  const left = await reapOrphans(home);
  if (left.length > 0) leaveHome(home);
  console.log(launcher || left.length > 0 ? "Quartet has stopped." : "Nothing runs here.");
}
