import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { basename, dirname, resolve } from "node:path";
import { promisify } from "node:util";
import { displayName as displayNameField } from "@quartet/contracts";
import { UsageError } from "./client.ts";

/** A repository and the commit that its HEAD named when it was opened. */
export interface Repository {
  path: string;
  /** What people call it: its folder's name. */
  name: string;
  /** Hash of HEAD's commit: what is read stays the same while somebody commits. */
  head: string;
  /** Commits that can be reached from it, as far as they are here. */
  commits: number;
  /** A shallow clone: older commits are not here. */
  shallow: boolean;
}

/** One commit of HEAD's history, as git's mailmap sees its author. */
export interface Commit {
  hash: string;
  /** Author email, case-folded; empty without one. Bytes that are not UTF-8 are read as Latin-1, so that distinct stays distinct. */
  email: string;
  /** Author name; empty, as the email, where git cannot read the line. */
  name: string;
  /** Author time, Unix seconds; the committer's where git cannot read the author's; NaN without either. */
  time: number;
}

const run = promisify(execFile);
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Of git's variables these say where git itself and the person's own settings are. The others name a repository, and not the one that was asked for. */
const KEPT = new Set(["GIT_EXEC_PATH", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"]);

function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_") || KEPT.has(name));
  // What it says is shown; and nothing that is missing may be fetched, or asked for.
  return { ...Object.fromEntries(kept), LC_ALL: "C", GIT_NO_LAZY_FETCH: "1", GIT_TERMINAL_PROMPT: "0" };
}

async function git(path: string, args: string[]): Promise<string> {
  const { stdout } = await run("git", ["-C", path, ...args], { env: environment() });
  return stdout.replace(/\n$/, "");
}

/** The line of what git said that says why. */
function complaintOf(said: string): string {
  const lines = said.split("\n").map((line) => line.trim());
  const line = lines.findLast((l) => l.startsWith("fatal:") || l.startsWith("error:")) ?? lines[0] ?? "";
  return line.replace(/^(fatal|error): */, "").slice(0, 300);
}

/** The path that a person meant: relative to where they stood when they called npm, which runs its scripts in the project's folder. */
export function pathFrom(path: string, env: NodeJS.ProcessEnv = process.env): string {
  // In a shell that some other script of npm started, the folder would be that one's.
  const stood = env.npm_lifecycle_event === "import" ? env.INIT_CWD : undefined;
  return resolve(stood ?? ".", path);
}

/** Opens the repository that a folder is in: with a work tree, linked, bare or shallow, of either object format. Throws UsageError that says why not. */
export async function openRepository(path: string): Promise<Repository> {
  const refuse = (error: unknown, otherwise: string): UsageError => {
    const { code, stderr = "" } = error as { code?: unknown; stderr?: string };
    if (code === "ENOENT") return new UsageError("git is not installed.");
    const advice = "git config --global --add safe.directory ";
    const owner = stderr
      .split("\n")
      .map((line) => line.trim())
      .find((line) => line.startsWith(advice));
    if (owner) return new UsageError(`${path} belongs to somebody else. If you trust what is in it: ${owner}`);
    const why = complaintOf(stderr);
    return new UsageError(`${path} ${otherwise}${why ? ` (${why})` : ""}.`);
  };
  let folder: string;
  try {
    folder = await git(path, ["rev-parse", "--absolute-git-dir"]);
  } catch (error) {
    throw refuse(error, "is not a git repository");
  }
  // Fails where there is no work tree, as in a bare one.
  const top = await git(path, ["rev-parse", "--show-toplevel"]).catch(() => "");
  let head: string;
  try {
    head = await git(path, ["rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}"]);
  } catch (error) {
    throw refuse(error, "has no commit yet: there is nothing to import");
  }
  const shallow = (await git(path, ["rev-parse", "--is-shallow-repository"])) === "true";
  try {
    const commits = Number(await git(path, ["rev-list", "--count", head, "--"]));
    return { path, name: nameOf(top || folder), head, commits, shallow };
  } catch (error) {
    throw refuse(error, "cannot be read to the end");
  }
}

function nameOf(folder: string): string {
  return basename(basename(folder) === ".git" ? dirname(folder) : folder).replace(/(.)\.git$/, "$1");
}

/** An author line may be as long as its writer liked; what is longer than any name or address is cut. */
const MAX_FIELD_BYTES = 16 * 1024;

/**
 * %aN and %aE are what the mailmap makes of %an and %ae. Of a line that it cannot read git leaves %an, %ae and %at empty, but writes "%aN" and
 * "%aE" as they stand here. Each field ends with a NUL; no field can hold one.
 */
const FIELDS = ["%H", "%an", "%ae", "%aN", "%aE", "%at", "%ct"];

/** HEAD's history, newest first (git's own order). Streams: a large repository does not fit in memory. Throws UsageError if git cannot read it all. */
export async function* readCommits({ path, head }: Pick<Repository, "path" | "head">): AsyncGenerator<Commit> {
  const child = spawn(
    "git",
    [
      ...["-C", path, "-c", "i18n.logOutputEncoding=UTF-8"],
      ...["log", "--no-show-signature", "--no-notes", "--no-color", "--no-patch"],
      ...[`--format=tformat:${FIELDS.map((field) => `${field}%x00`).join("")}`, head, "--"],
    ],
    { stdio: ["ignore", "pipe", "pipe"], env: environment() },
  );
  let complaint = "";
  child.stderr.on("data", (d: Buffer) => {
    complaint = (complaint + d.toString()).slice(-1000);
  });
  const ended = endOf(child);
  let fields: string[] = [];
  try {
    for await (const found of splitAtNul(child.stdout)) {
      for (const field of found) {
        fields.push(field);
        if (fields.length < FIELDS.length) continue;
        yield commitOf(fields);
        fields = [];
      }
    }
    const code = await ended;
    if (code !== 0) throw new UsageError(`${path} cannot be read to the end (${complaintOf(complaint)}).`);
  } finally {
    child.kill();
  }
}

function endOf(child: ChildProcess): Promise<number | null> {
  const ended = new Promise<number | null>((done, fail) => {
    child.on("error", fail);
    child.on("close", done);
  });
  // Whoever stops reading early does not ask how it ended.
  ended.catch(() => {});
  return ended;
}

/** The fields that end in each piece, in one pass over the bytes and with at most one cut field in memory. */
async function* splitAtNul(stream: AsyncIterable<Buffer>): AsyncGenerator<string[]> {
  let parts: Buffer[] = [];
  let size = 0;
  const keep = (bytes: Buffer) => {
    const kept = bytes.subarray(0, Math.max(0, MAX_FIELD_BYTES - size));
    // A copy: what is kept must not keep the whole piece alive.
    if (kept.length > 0) parts.push(Buffer.from(kept));
    size += kept.length;
  };
  for await (const piece of stream) {
    const fields: string[] = [];
    let from = 0;
    for (let at = piece.indexOf(0, from); at >= 0; at = piece.indexOf(0, from)) {
      keep(piece.subarray(from, at));
      fields.push(decode(parts.length === 1 ? parts[0]! : Buffer.concat(parts)));
      parts = [];
      size = 0;
      from = at + 1;
    }
    keep(piece.subarray(from));
    yield fields;
  }
}

function decode(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch {
    return bytes.toString("latin1");
  }
}

function commitOf(fields: string[]): Commit {
  const [hash, rawName, rawEmail, name, email, authored, committed] = fields as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const readable = rawName !== "" || rawEmail !== "" || authored !== "";
  const time = authored || committed;
  return {
    // What is before it ended the line of the commit before.
    hash: hash.trim(),
    email: readable ? email.trim().toLowerCase() : "",
    name: readable ? name.trim() : "",
    time: time === "" ? Number.NaN : Number(time),
  };
}

/** The name as the API takes it, cut to length and without what it refuses within a name; undefined if that is no name, as one of nothing visible. */
function presentable(name: string): string | undefined {
  const kept = name
    .toWellFormed()
    .replace(/[\p{Cc}\u2028\u2029]/gu, " ")
    .replace(/[\u202A-\u202E\u2066-\u2069]/g, "")
    .trim();
  const cut = [...kept].slice(0, 80).join("").trim();
  return displayNameField.safeParse(cut).success ? cut : undefined;
}

/** Who an author is to others: the name, else the address without its domain, else "unknown". `named`: it is the name. */
export function displayNameOf(name: string, email: string): { displayName: string; named: boolean } {
  const own = presentable(name);
  if (own !== undefined) return { displayName: own, named: true };
  return { displayName: presentable(email.split("@", 1)[0] ?? "") ?? "unknown", named: false };
}

/**
 * The import key of an author: the address; without one the name, so that two of them are two people; without either one key for all. What is too
 * long, or could be taken for an address, is hashed.
 */
export function authorKey({ email, name }: Pick<Commit, "email" | "name">): string {
  if (email !== "" && email.length <= 320) return email;
  // No address holds a line feed.
  const who = email !== "" || presentable(name) === undefined ? email : `\n${name}`;
  return `git-author:${createHash("sha256").update(who).digest("hex")}`;
}

/** An author time the API takes. Clocks have been wrong: what lies outside 1970 to 2100 is moved to the nearer end, and no time at all to the first. */
export function presentableTime(seconds: number): string {
  const latest = Date.UTC(2100, 0, 1) / 1000 - 1;
  return new Date(Math.min(Math.max(seconds || 0, 0), latest) * 1000).toISOString();
}
