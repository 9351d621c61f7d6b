import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { authorKey, openRepository, pathFrom, presentableTime, readCommits } from "../src/git.ts";
import { authorsOf, eventsOf } from "../src/import.ts";

const root = mkdtempSync(join(tmpdir(), "quartet-git-"));
const project = new URL("../../..", import.meta.url).pathname;
afterAll(() => rmSync(root, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_")));
const env = { ...clean, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_SYSTEM: "/dev/null" };
const git = (path: string, args: string[], input: string | Buffer = "") =>
  execFileSync("git", ["-C", path, ...args], { env, input, maxBuffer: 1 << 28, stdio: ["pipe", "pipe", "pipe"] })
    .toString()
    .trim();

function init(name: string, ...args: string[]): string {
  const path = join(root, name);
  git(root, ["init", "-q", "-b", "main", ...args, path]);
  return path;
}

function commit(path: string, name: string, email: string): void {
  git(path, ["-c", `user.name=${name}`, "-c", `user.email=${email}`, "commit", "-q", "--allow-empty", "-m", "m"]);
}

/** A history of commits whose author lines are these bytes, as no git of today would write them. */
function withAuthors(name: string, authors: (string | Buffer)[], headers = ""): string {
  const path = init(name);
  const tree = git(path, ["hash-object", "-t", "tree", "-w", "/dev/null"]);
  let parent = "";
  for (const author of authors) {
    const raw = Buffer.concat([
      Buffer.from(`tree ${tree}\n${parent && `parent ${parent}\n`}author `),
      Buffer.from(author),
      Buffer.from(`\ncommitter C <c@example.org> 1600000000 +0000\n${headers}\nm\n`),
    ]);
    parent = git(path, ["hash-object", "-t", "commit", "-w", "--stdin", "--literally"], raw);
  }
  git(path, ["update-ref", "HEAD", parent]);
  return path;
}

/** What an import would send. */
async function read(path: string) {
  const repository = await openRepository(path);
  const authors = await authorsOf(repository);
  const ids = new Map([...authors.keys()].map((key) => [key, key]));
  const events = [];
  for await (const event of eventsOf(repository, ids)) events.push(event);
  expect(events.length).toBe(repository.commits);
  return { repository, authors: [...authors.values()], names: [...authors.values()].map((a) => a.displayName), events };
}

describe("which repository it is", () => {
  let other: string;
  beforeAll(() => {
    other = init("other");
    commit(other, "Zed", "zed@example.org");
  });

  it("is the one of the path, whatever repository the environment names", async () => {
    for (const [name, value] of Object.entries({
      GIT_DIR: join(project, ".git"),
      GIT_WORK_TREE: project,
      GIT_COMMON_DIR: join(project, ".git"),
      GIT_OBJECT_DIRECTORY: join(root, "nowhere"),
      GIT_INDEX_FILE: join(root, "nowhere"),
      GIT_NAMESPACE: "elsewhere",
      GIT_CEILING_DIRECTORIES: root,
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "core.bare",
      GIT_CONFIG_VALUE_0: "nonsense",
      GIT_TRACE: "1",
      GIT_LITERAL_PATHSPECS: "nonsense",
    }))
      vi.stubEnv(name, value);
    const { repository, names } = await read(other);
    expect([repository.name, names]).toEqual(["other", ["Zed"]]);
  });

  it("is meant from where the caller of npm stood, and only if npm runs this very script", () => {
    expect(pathFrom(".", { npm_lifecycle_event: "import", INIT_CWD: other })).toBe(other);
    expect(pathFrom("x/../y", { npm_lifecycle_event: "import", INIT_CWD: other })).toBe(join(other, "y"));
    expect(pathFrom("/a", { npm_lifecycle_event: "import", INIT_CWD: other })).toBe("/a");
    expect(pathFrom(".", { npm_lifecycle_event: "test", INIT_CWD: other })).toBe(process.cwd());
    expect(pathFrom(".", {})).toBe(process.cwd());
  });

  it("has the name of its folder, from any folder of it", async () => {
    mkdirSync(join(other, "deep", "er"), { recursive: true });
    git(root, ["clone", "-q", "--bare", other, join(root, "bare.git")]);
    git(other, ["worktree", "add", "-q", "--detach", join(root, "linked")]);
    for (const [path, name] of [
      ["other/deep/er", "other"],
      ["other/.git", "other"],
      ["bare.git", "bare"],
      ["linked", "linked"],
    ] as const) {
      const { repository, names } = await read(join(root, path));
      expect([repository.name, names], path).toEqual([name, ["Zed"]]);
    }
  });

  it.each(["HEAD", "main", "--all", ":(exclude)x"])("may hold a file named %s, and a branch", async (file) => {
    const path = init(`file ${file}`);
    writeFileSync(join(path, file), "x");
    git(path, ["add", "."]);
    commit(path, "A", "a@example.org");
    git(path, ["update-ref", "refs/heads/HEAD", "HEAD"]);
    expect((await read(path)).names).toEqual(["A"]);
  });

  it("may name its objects by SHA-256", async () => {
    const path = init("sha256", "--object-format=sha256");
    commit(path, "S", "s@example.org");
    const { events } = await read(path);
    expect(events.map((e) => e.id)).toEqual([expect.stringMatching(/^[0-9a-f]{64}$/)]);
  });

  it("may be shallow: what is here is read", async () => {
    const path = init("deep");
    for (let i = 0; i < 5; i++) commit(path, "D", "d@example.org");
    git(root, ["clone", "-q", "--depth=2", `file://${path}`, join(root, "shallow")]);
    const { repository, events } = await read(join(root, "shallow"));
    expect([repository.shallow, events.length]).toEqual([true, 2]);
  });

  it("stays as it was when somebody commits meanwhile", async () => {
    const path = init("busy");
    commit(path, "A", "a@example.org");
    const repository = await openRepository(path);
    commit(path, "B", "b@example.org");
    expect([...(await authorsOf(repository)).keys()]).toEqual(["a@example.org"]);
  });

  it("is refused in one line if there is none, nothing in it, or not all of it", async () => {
    const refused = async (path: string) => {
      const error = await read(path).catch((e: Error) => e);
      expect(error).toMatchObject({ name: "UsageError", message: expect.not.stringContaining("\n") });
      return (error as Error).message;
    };
    expect(await refused(init("empty"))).toMatch(/has no commit yet/);
    expect(await refused(init("bare-empty", "--bare"))).toMatch(/has no commit yet/);
    expect(await refused(root)).toMatch(/is not a git repository/);
    expect(await refused(join(root, "nowhere"))).toMatch(/is not a git repository/);
    const broken = init("broken");
    for (let i = 0; i < 3; i++) commit(broken, "A", `a${i}@example.org`);
    const lost = git(broken, ["rev-parse", "HEAD~2"]);
    rmSync(join(broken, ".git", "objects", lost.slice(0, 2), lost.slice(2)));
    expect(await refused(broken)).toMatch(/cannot be read to the end \(.+\)/);
  });

  it("is refused if it is somebody else's, with git's own remedy", async () => {
    vi.stubEnv("GIT_CONFIG_GLOBAL", "/dev/null");
    vi.stubEnv("GIT_CONFIG_SYSTEM", "/dev/null");
    const path = init("theirs");
    commit(path, "A", "a@example.org");
    if (process.getuid?.() !== 0) return;
    execFileSync("chown", ["-R", "12345", path]);
    await expect(openRepository(path)).rejects.toThrow(
      /belongs to somebody else.*git config --global --add safe\.directory/,
    );
  });

  it("is told on the terminal without a stack, and the exit status is not 0", () => {
    const main = join(project, "packages/cli/src/main.ts");
    let failed: { status?: number; stderr?: Buffer } = {};
    try {
      execFileSync(process.execPath, [main, "import", "git", "empty"], {
        cwd: project,
        env: { ...clean, INIT_CWD: root, npm_lifecycle_event: "import" },
        stdio: "pipe",
      });
    } catch (error) {
      failed = error as typeof failed;
    }
    expect(failed.status).toBe(2);
    expect(failed.stderr?.toString().trim()).toBe(
      `${join(root, "empty")} has no commit yet: there is nothing to import.`,
    );
  });
});

describe("who the authors are", () => {
  it("two people if two names have no address; somebody unknown where git can read no line", async () => {
    const path = withAuthors("authors", [
      "Alice <> 1600000000 +0000",
      "Bob <> 1600000100 +0000",
      "Bob < > 1600000101 +0000",
      "no address here",
      "Eve\0x <e@example.org> 1600000200 +0000",
      "\u200b\u200b <z@example.org> 1600000300 +0000",
      " <> 1600000400 +0000",
      "\u3164 <> 1600000500 +0000",
      "",
    ]);
    const { names, events } = await read(path);
    expect(names.sort()).toEqual(["Alice", "Bob", "unknown", "z"]);
    expect(events.length).toBe(9);
    // Without a time of its own a commit has its committer's.
    expect(events[0]?.occurredAt).toBe("2020-09-13T12:26:40.000Z");
  });

  it("somebody may be called %aN", async () => {
    const path = withAuthors("format", ["%aN <%aE> 1600000000 +0000", "%aN <> 1600000000 +0000"]);
    expect((await read(path)).authors).toMatchObject([
      { displayName: "%aN", email: "" },
      { displayName: "%aN", email: "%ae" },
    ]);
  });

  it("one person whose addresses differ in case alone, by the latest name that is visible", async () => {
    const path = withAuthors("case", [
      "Old <Same@Example.org> 1600000000 +0000",
      "New <same@example.ORG> 1600000100 +0000",
      "\u200b <SAME@example.org> 1600000200 +0000",
    ]);
    const { authors, events } = await read(path);
    expect(authors).toEqual([{ key: "same@example.org", email: "same@example.org", displayName: "New" }]);
    expect(events.length).toBe(3);
  });

  it("names that turn their surroundings, have control characters or are too long become ones that the API takes", async () => {
    const path = withAuthors("names", [
      "Ada\u202e <a@example.org> 1600000000 +0000",
      "Tab\tbed\u2028 <b@example.org> 1600000000 +0000",
      `${"\u{1F600}".repeat(200)} <c@example.org> 1600000000 +0000`,
      "\u202e <d@example.org> 1600000000 +0000",
      `${"\u200b".repeat(90)}Zed <e@example.org> 1600000000 +0000`,
    ]);
    expect((await read(path)).names.reverse()).toEqual(["Ada", "Tab bed", "\u{1F600}".repeat(80), "d", "e"]);
  });

  it("bytes of other encodings stay different people", async () => {
    const latin = Buffer.from("Jos\xe9 <jos\xe9@example.org> 1600000000 +0000", "latin1");
    const other = Buffer.from("Jos\xe8 <jos\xe8@example.org> 1600000000 +0000", "latin1");
    expect((await read(withAuthors("bytes", [latin, other]))).names).toEqual(["Josè", "José"]);
    expect((await read(withAuthors("encoded", [latin], "encoding ISO-8859-1\n"))).authors).toMatchObject([
      { displayName: "José", email: "josé@example.org" },
    ]);
  });

  it("as the mailmap has them", async () => {
    const path = init("mailmap");
    writeFileSync(join(path, ".mailmap"), "Proper <new@example.org> Wrong <old@example.org>\nNamed <> Alice <>\n");
    git(path, ["add", "."]);
    commit(path, "Wrong", "old@example.org");
    expect((await read(path)).authors).toMatchObject([{ displayName: "Proper", email: "new@example.org" }]);
    git(root, ["clone", "-q", "--bare", path, join(root, "mailmap.git")]);
    expect((await read(join(root, "mailmap.git"))).names).toEqual(["Proper"]);
  });

  it("times that no clock of ours shows are moved to where it does", async () => {
    const path = withAuthors("times", [
      "A <a@example.org> 99999999999999999999999 +0000",
      "A <a@example.org> -5 +0000",
      "A <a@example.org> 0 +0000",
      "A <a@example.org> 4102444800 +9999",
      "A <a@example.org>",
    ]);
    expect((await read(path)).events.map((e) => e.occurredAt?.slice(0, 10)).reverse()).toEqual([
      "2099-12-31",
      "2020-09-13",
      "1970-01-01",
      "2099-12-31",
      "2020-09-13",
    ]);
    expect(presentableTime(Number.NaN)).toBe("1970-01-01T00:00:00.000Z");
  });

  it("a line of megabytes is cut, and read once", async () => {
    const long = "x".repeat(3 << 20);
    const path = withAuthors("long", [`${long} <${long}@example.org> 1600000000 +0000`]);
    for await (const found of readCommits(await openRepository(path))) {
      expect([found.name.length, found.email.length]).toEqual([16_384, 16_384]);
      expect(authorKey(found)).toMatch(/^git-author:[0-9a-f]{64}$/);
    }
  });
});
