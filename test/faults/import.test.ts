import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "../lib/client.ts";
import { killOnce } from "../lib/faults.ts";
import { writeHistory } from "../lib/git-history.ts";
import { client, home } from "../lib/system.ts";

const run = promisify(execFile);
const root = new URL("../..", import.meta.url).pathname;
const COMMITS = 12_000;
const repository = mkdtempSync(join(tmpdir(), "quartet-git-"));
const env = {
  ...process.env,
  QUARTET_URL: client.url,
  QUARTET_OPERATOR_TOKEN: client.operatorToken,
};

beforeAll(() => writeHistory(repository, { commits: COMMITS, authors: 900, seed: 7 }));
afterAll(() => rmSync(repository, { recursive: true, force: true }));

/** What git itself says: distinct authors, commits a month. */
function truth() {
  const log = execFileSync("git", ["-C", repository, "log", "--use-mailmap", "--format=%aE%x09%at%x09%aN"], {
    maxBuffer: 1 << 28,
  }).toString();
  const authors = new Set<string>();
  const months: Record<string, number> = {};
  for (const line of log.trim().split("\n")) {
    const [email, at, name] = line.split("\t") as [string, string, string];
    authors.add(email.toLowerCase() || `without an address: ${name}`);
    const month = new Date(Number(at) * 1000).toISOString().slice(0, 7);
    months[month] = (months[month] ?? 0) + 1;
  }
  return { authors: authors.size, months };
}

async function counts() {
  const { body: status } = await client.get("/v1/admin/status", { token: client.operatorToken });
  const { body: commits } = await client.get(
    "/v1/analytics/events?name=commit&from=1970-01-01&to=2100-01-01&interval=month",
  );
  const months = Object.fromEntries(
    (commits.series as { at: string; count: number }[])
      .filter((p) => p.count > 0)
      .map((p) => [p.at.slice(0, 7), p.count]),
  );
  return {
    postgres: status.stores.postgres.users as number,
    elasticsearch: status.stores.elasticsearch.documents as number,
    profiles: status.stores.redis.profiles as number,
    total: commits.total as number,
    months,
  };
}

describe("import of a git history", () => {
  it("is exact although every engine and every service is killed in turn meanwhile, and a rerun adds nothing", async () => {
    const before = await counts();
    const { authors, months } = truth();
    const victims: ["engines" | "services", string][] = home
      ? [
          ...["postgres", "redis", "clickhouse", "elasticsearch", "nats"].map(
            (n) => ["engines", n] as ["engines", string],
          ),
          ...["user", "session", "analytics", "search", "gateway"].map((n) => ["services", n] as ["services", string]),
        ]
      : [];
    const importer = spawn(process.execPath, ["packages/cli/src/main.ts", "import", "git", repository], {
      cwd: root,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let said = "";
    for (const stream of [importer.stdout, importer.stderr])
      stream.on("data", (d: Buffer) => {
        said += d.toString();
      });
    const ended = new Promise<number | null>((done) => importer.on("exit", done));
    for (const [kind, name] of victims) {
      const old = await killOnce(kind, name);
      await eventually(
        `${name} is started again`,
        async () => {
          const { runFile } = await import("../lib/system.ts");
          const pid = runFile()[kind][name]?.pid as number | undefined;
          return pid !== undefined && pid !== old;
        },
        60_000,
      );
    }
    expect(await ended, said).toBe(0);

    const expected = {
      postgres: before.postgres + authors,
      elasticsearch: before.postgres + authors,
      profiles: before.postgres + authors,
      total: COMMITS,
      months,
    };
    await eventually(
      "all stores agree with git",
      async () => {
        const now = await counts();
        return (
          now.total === COMMITS && now.elasticsearch === expected.elasticsearch && now.profiles === expected.profiles
        );
      },
      120_000,
    ).catch(() => {});
    expect(await counts()).toEqual(expected);

    const again = await run(process.execPath, ["packages/cli/src/main.ts", "import", "git", repository], {
      cwd: root,
      env,
    });
    expect(again.stdout).toContain("0 new, 0 changed");
    expect(await counts()).toEqual(expected);
  }, 600_000);
});
