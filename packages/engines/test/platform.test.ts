import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

const cli = new URL("../../cli/src/main.ts", import.meta.url).pathname;
const elsewhere = 'data:text/javascript,Object.defineProperty(process,"platform",{value:"freebsd"})';

test("where no engines are published, npm start says in one line how to go on", () => {
  const home = mkdtempSync(join(tmpdir(), "quartet-platform-"));
  try {
    const env = {
      PATH: process.env.PATH,
      HOME: home,
      QUARTET_HOME: home,
      QUARTET_CACHE: home,
      QUARTET_PORTS: "random",
    };
    const { status, stderr } = spawnSync(process.execPath, ["--import", elsewhere, cli, "start"], {
      env,
      encoding: "utf8",
      timeout: 30_000,
    });
    expect(status).toBe(1);
    const lines = stderr.trim().split("\n");
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(
      /freebsd-\w+: open this folder in its devcontainer \(\.devcontainer\/devcontainer\.json\)/,
    );
    expect(lines[0]).toMatch(/set POSTGRES_URL, REDIS_URL, CLICKHOUSE_URL, ELASTICSEARCH_URL, NATS_URL to/);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
