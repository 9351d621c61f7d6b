import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { RunResult } from "../../chaos/run.ts";

const ROOT = join(import.meta.dirname, "../..");
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "quartet-mutations-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs experiments of the quick suite on a system of their own, with or without a defect. Returns the exit code and which invariants were broken. */
async function chaos(
  only: string[],
  defect: string,
): Promise<{ code: number | null; broken: Set<string>; said: string }> {
  const out = join(folder, defect || "sound");
  // By its data alone: that a defect shows must not hang on the clock of the machine.
  const words = [
    "chaos/main.ts",
    "--quick",
    "--patient",
    "--bail",
    "--seed",
    "7",
    "--out",
    out,
    "--only",
    only.join(","),
  ];
  const child = spawn(process.execPath, words, {
    cwd: ROOT,
    env: { ...process.env, QUARTET_URL: "", QUARTET_HOME: "", QUARTET_UNSAFE: defect },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (said += data));
  const [code] = (await once(child, "exit")) as [number | null];
  let broken = new Set<string>();
  try {
    const { experiments } = JSON.parse(readFileSync(join(out, "report.json"), "utf8")) as RunResult;
    const verdicts = experiments.flatMap((e) => e.verdicts);
    broken = new Set(verdicts.filter((v) => v.violations.length > 0).map((v) => v.invariant));
  } catch {
    // It did not come so far; what it said is in the failure.
  }
  return { code, broken, said };
}

describe("the suite", () => {
  it("passes on the system as it is", async () => {
    const { code, broken, said } = await chaos(["projector-thawed-late", "clickhouse-and-projector"], "");
    expect([...broken], said).toEqual([]);
    expect(code, said).toBe(0);
  });

  it.each([
    ["drop-ack", "projector-thawed-late", ["facts"]],
    ["skip-version-check", "projector-thawed-late", ["stores-equal"]],
    // What was acknowledged and not written is missing; or, if it was written later after all, an answer claimed it too early.
    ["ack-before-flush", "clickhouse-and-projector", ["facts", "as-of"]],
    ["forget-tombstone", "projector-thawed-late", ["converged"]],
  ])("fails on one with the defect %s", async (defect, experiment, invariants) => {
    const { code, broken, said } = await chaos([experiment], defect);
    expect(code, said).toBe(1);
    expect(
      invariants.some((invariant) => broken.has(invariant)),
      said,
    ).toBe(true);
  });

  it("refuses a defect that does not exist", async () => {
    const { code } = await chaos(["projector-thawed-late"], "drop-akc");
    expect(code).not.toBe(0);
  });
});
