import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { UsageError } from "./client.ts";

/** One commit of HEAD's history, as git's mailmap sees its author. */
export interface Commit {
  hash: string;
  /** Author email, case-folded; as bytes that were not UTF-8 it is read as Latin-1, so that distinct stays distinct. */
  email: string;
  name: string;
  /** Author time, Unix seconds. */
  time: number;
}

const run = promisify(execFile);
const FIELDS = 4;
const utf8 = new TextDecoder("utf-8", { fatal: true });

function decode(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch {
    return bytes.toString("latin1");
  }
}

/** Number of commits reachable from HEAD. Throws UsageError if the path is no repository with a commit. */
export async function countCommits(path: string): Promise<number> {
  try {
    const { stdout } = await run("git", ["-C", path, "rev-list", "--count", "HEAD"]);
    return Number(stdout.trim());
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") throw new UsageError("git is not installed.");
    const said = String((error as { stderr?: string }).stderr ?? "")
      .trim()
      .split("\n")[0];
    throw new UsageError(`${path} is not a git repository with a commit at HEAD${said ? ` (${said})` : ""}.`);
  }
}

/** HEAD's history, newest first (git's own order). Streams: a large repository does not fit in memory. */
export async function* readCommits(path: string): AsyncGenerator<Commit> {
  const git = spawn(
    "git",
    [
      "-C",
      path,
      "-c",
      "i18n.logOutputEncoding=UTF-8",
      "log",
      "-z",
      "--use-mailmap",
      "--no-show-signature",
      "--format=%H%x00%aE%x00%aN%x00%at",
      "HEAD",
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let complaint = "";
  git.stderr.on("data", (d: Buffer) => {
    complaint = (complaint + d.toString()).slice(-1000);
  });
  const ended = new Promise<number | null>((done, fail) => {
    git.on("error", fail);
    git.on("close", done);
  });
  let rest: Buffer = Buffer.alloc(0);
  let fields: string[] = [];
  const commits: Commit[] = [];
  const take = (field: string) => {
    fields.push(field);
    if (fields.length < FIELDS) return;
    const [hash, email, name, time] = fields as [string, string, string, string];
    commits.push({ hash, email: email.toLowerCase(), name, time: Number(time) });
    fields = [];
  };
  try {
    for await (const chunk of git.stdout as AsyncIterable<Buffer>) {
      const bytes = rest.length ? Buffer.concat([rest, chunk]) : chunk;
      let from = 0;
      for (let at = bytes.indexOf(0, from); at >= 0; at = bytes.indexOf(0, from)) {
        take(decode(bytes.subarray(from, at)));
        from = at + 1;
      }
      rest = bytes.subarray(from);
      yield* commits.splice(0);
    }
    // `-z` separates the commits, it does not end the last one.
    if (fields.length === FIELDS - 1) take(decode(rest).trim());
    yield* commits.splice(0);
    const code = await ended;
    if (code !== 0) throw new UsageError(`git log failed: ${complaint.trim()}`);
  } finally {
    git.kill();
  }
}

/** A display name the API takes: no control characters, well-formed, 1 to 80 characters. */
export function presentableName(name: string, email: string): string {
  const clean = (text: string) =>
    [
      ...text
        .toWellFormed()
        .replace(/\p{Cc}+/gu, " ")
        .trim(),
    ]
      .slice(0, 80)
      .join("")
      .trim();
  return clean(name) || clean(email.split("@")[0] ?? "") || "unknown";
}

/** The import key of an author: the email itself, or its hash where it is too long or empty. */
export function authorKey(email: string): string {
  if (email !== "" && email.length <= 320 && email.isWellFormed()) return email;
  return `git-author:${createHash("sha256").update(email).digest("hex")}`;
}

/** An author time the API takes. Clocks have been wrong: what lies outside 1970 to 2100 is moved to the nearer end. */
export function presentableTime(seconds: number): string {
  const latest = Date.UTC(2100, 0, 1) / 1000 - 1;
  const inRange = Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), latest) : 0;
  return new Date(inRange * 1000).toISOString();
}
