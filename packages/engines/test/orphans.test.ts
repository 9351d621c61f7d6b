import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import { createEngine, identify, isAlive, readPidFile, reapOrphans, writePidFile } from "../src/index.ts";

const home = mkdtempSync(join(tmpdir(), "quartet-orphans-"));
const spawned: ChildProcess[] = [];

function sleeper() {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  spawned.push(child);
  return identify(child.pid!)!;
}

afterEach(() => {
  for (const child of spawned) child.kill("SIGKILL");
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

test("ends what the PID files name, and no stranger who got the pid since", async () => {
  const ours = sleeper();
  const stranger = sleeper();
  writePidFile(home, "ours", ours);
  writePidFile(home, "stranger", { pid: stranger.pid, started: "an earlier process" });
  expect(await reapOrphans(home)).toEqual(["ours"]);
  expect(isAlive(ours)).toBe(false);
  expect(isAlive(stranger)).toBe(true);
  expect(readPidFile(home, "stranger")).toBeUndefined();
});

test("an engine left behind by a killed launcher is ended, frozen or not, and its data goes on", async () => {
  const index = new URL("../src/index.ts", import.meta.url).href;
  const program = `import { createEngine } from ${JSON.stringify(index)};
    const redis = createEngine("redis", { home: ${JSON.stringify(home)}, randomPort: true });
    await redis.start();
    redis.freeze();
    process.kill(process.pid, "SIGKILL");`;
  const launcher = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "ignore" });
  await new Promise((resolve) => launcher.once("exit", resolve));
  const left = readPidFile(home, "redis")!;
  expect(isAlive(left)).toBe(true);

  const redis = createEngine("redis", { home, randomPort: true, dieWithParent: true });
  await expect(redis.start()).rejects.toThrow(`already runs as process ${left.pid}`);
  expect(await reapOrphans(home)).toEqual(["redis"]);
  expect(isAlive(left)).toBe(false);
  await redis.start();
  await redis.kill();
});
