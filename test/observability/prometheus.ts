import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../lib/launch.ts";

/** The folder with `prometheus` and `promtool`; undefined where they cannot be had. */
export interface Tools {
  prometheus: string;
  promtool: string;
}

let found: Tools | undefined | null;

/**
 * Prometheus and promtool: the ones of `PATH`, else Debian's package, fetched with apt once and unpacked into the cache (which needs no root, where apt
 * has its lists). Undefined where neither is to be had; then it says so, once.
 */
export function findPrometheus(): Tools | undefined {
  found ??= onPath() ?? fromDebian() ?? null;
  if (found === null)
    console.log("No prometheus and promtool here (apt install prometheus): what needs them is skipped.");
  return found ?? undefined;
}

function onPath(): Tools | undefined {
  const works = ["prometheus", "promtool"].every((name) => spawnSync(name, ["--version"]).status === 0);
  return works ? { prometheus: "prometheus", promtool: "promtool" } : undefined;
}

function fromDebian(): Tools | undefined {
  const cache = process.env.QUARTET_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "quartet");
  const folder = join(cache, `prometheus-debian-${process.arch}`);
  const tools = { prometheus: join(folder, "usr/bin/prometheus"), promtool: join(folder, "usr/bin/promtool") };
  if (existsSync(tools.promtool)) return tools;
  if (spawnSync("dpkg-deb", ["--version"]).status !== 0) return undefined;
  mkdirSync(cache, { recursive: true });
  const draft = mkdtempSync(join(cache, "prometheus-"));
  const options = { cwd: draft, stdio: "ignore", timeout: 120_000 } as const;
  const download = () => spawnSync("apt-get", ["download", "prometheus"], options).status === 0;
  try {
    // The lists are empty in a fresh container; only root may fetch them.
    const here = download() || (spawnSync("apt-get", ["update"], options).status === 0 && download());
    if (!here) return undefined;
    const archive = readdirSync(draft).find((name) => name.endsWith(".deb"));
    if (!archive) return undefined;
    execFileSync("dpkg-deb", ["-x", join(draft, archive), join(draft, "out")]);
    if (!existsSync(folder)) renameSync(join(draft, "out"), folder);
    return tools;
  } catch {
    return undefined;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

export interface Sample {
  metric: Record<string, string>;
  value: [number, string];
}

export interface Alert {
  labels: Record<string, string>;
  state: "pending" | "firing";
}

/** One series of a range: its samples by their time in seconds. */
export interface Range {
  metric: Record<string, string>;
  values: [number, string][];
}

/** How often it scrapes. */
export const SCRAPE_SECONDS = 2;

/** A Prometheus of this test. */
export interface Prometheus {
  /** The instant vector of a query; a scalar is one sample without labels. Throws with Prometheus' own words if the query is refused. */
  query(expr: string): Promise<Sample[]>;
  /** What a query gives from one time to another, in seconds since 1970, every `step` seconds. */
  range(expr: string, from: number, to: number, step: number): Promise<Range[]>;
  /** Names of all metrics it has. */
  names(): Promise<Set<string>>;
  /** Alerts that fire now. */
  firing(): Promise<Alert["labels"][]>;
  /** Every rule with its health. */
  rules(): Promise<{ name: string; health: string; lastError?: string }[]>;
  stop(): Promise<void>;
}

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** Starts a Prometheus that scrapes the targets (job to `host:port`) every SCRAPE_SECONDS, and evaluates these rule files every second. */
export async function startPrometheus(
  { prometheus }: Tools,
  targets: Record<string, string>,
  rules: Record<string, string>,
): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), "quartet-prometheus-"));
  for (const [name, text] of Object.entries(rules)) writeFileSync(join(folder, name), text);
  const jobs = Object.entries(targets).map(([job, target]) => ({
    job_name: job,
    honor_labels: true,
    // As the charts have it.
    static_configs: [{ targets: [target], labels: { service: job, part_of: "quartet", namespace: "local", pod: job } }],
  }));
  const config = {
    global: { scrape_interval: `${SCRAPE_SECONDS}s`, scrape_timeout: `${SCRAPE_SECONDS}s`, evaluation_interval: "1s" },
    rule_files: [join(folder, "*.rules")],
    scrape_configs: jobs,
  };
  writeFileSync(join(folder, "prometheus.yml"), JSON.stringify(config));
  const port = await freePort();
  const child = spawn(
    prometheus,
    [
      `--config.file=${join(folder, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--log.level=warn",
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  living.add(child);
  let said = "";
  child.stderr?.on("data", (data: Buffer) => {
    said += data;
  });
  const exited = new Promise<void>((done) => child.once("exit", () => done()));
  const api = async <T>(path: string, body?: URLSearchParams): Promise<T> => {
    const url = `http://127.0.0.1:${port}/api/v1/${path}`;
    const init = body ? { method: "POST", body } : {};
    const answer = await fetch(url, { ...init, signal: AbortSignal.timeout(10_000) });
    const { status, data, error } = (await answer.json()) as { status: string; data: T; error?: string };
    if (status !== "success") throw new Error(error);
    return data;
  };
  for (const deadline = Date.now() + 30_000; ; await sleep(100)) {
    const ready = await fetch(`http://127.0.0.1:${port}/-/ready`).catch(() => undefined);
    if (ready?.ok) break;
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`Prometheus does not start:\n${said}`);
  }
  return {
    async query(expr) {
      type Answer = { resultType: "vector"; result: Sample[] } | { resultType: "scalar"; result: Sample["value"] };
      const { resultType, result } = await api<Answer>("query", new URLSearchParams({ query: expr }));
      return resultType === "scalar" ? [{ metric: {}, value: result }] : result;
    },
    async range(expr, start, end, step) {
      const query = { query: expr, start: String(start), end: String(end), step: String(step) };
      return (await api<{ result: Range[] }>("query_range", new URLSearchParams(query))).result;
    },
    names: async () => new Set(await api<string[]>("label/__name__/values")),
    async firing() {
      const { alerts } = await api<{ alerts: Alert[] }>("alerts");
      return alerts.filter((alert) => alert.state === "firing").map((alert) => alert.labels);
    },
    async rules() {
      const { groups } = await api<{ groups: { rules: { name: string; health: string; lastError?: string }[] }[] }>(
        "rules",
      );
      return groups.flatMap((group) => group.rules);
    },
    async stop() {
      child.kill("SIGTERM");
      await exited;
      living.delete(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
