import { RequestFailed, UsageError } from "./client.ts";

/** One file per command; each exports `main(args)`. */
const COMMANDS: Record<string, () => Promise<{ main(args: string[]): Promise<void> }>> = {
  start: () => import("./start.ts"),
  stop: () => import("./stop.ts"),
  import: () => import("./import.ts"),
  seed: () => import("./seed.ts"),
  dead: () => import("./dead.ts"),
  rebuild: () => import("./rebuild.ts"),
  audit: () => import("./audit.ts"),
};

const [command = "", ...args] = process.argv.slice(2);
const load = Object.hasOwn(COMMANDS, command) ? COMMANDS[command] : undefined;
if (!load) {
  console.error(`Usage: npm run ${Object.keys(COMMANDS).join("|")} -- [options]`);
  process.exit(2);
}
try {
  await (await load()).main(args);
} catch (error) {
  // These two say all there is to say; anything else is a defect and shows its stack.
  if (!(error instanceof UsageError || error instanceof RequestFailed)) throw error;
  console.error(error.message);
  process.exit(error instanceof UsageError ? 2 : 1);
}
