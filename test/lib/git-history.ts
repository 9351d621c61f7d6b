import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";

/**
 * Writes a repository with awkward authors: names in many scripts, changed names, mixed-case and broken emails, an empty one, a mailmap,
 * author times from 1970 to today, merges left out. Deterministic. Uses `git fast-import`, so ten thousand commits take a second.
 */
export async function writeHistory(path: string, o: { commits: number; authors: number; seed: number }): Promise<void> {
  execFileSync("git", ["init", "-q", "-b", "main", path]);
  let state = o.seed;
  const next = (n: number) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return state % n;
  };
  const names = ["Ada Łovelace", "Грейс Хоппер", "高橋 健", "José Ñandú", 'O\'Neil "Quote"', "محمد", "plain"];
  const emails = Array.from({ length: o.authors }, (_, i) => {
    if (i === 0) return "";
    if (i === 1) return "not an address";
    if (i === 2) return "root@localhost";
    if (i === 3) return `${"long".repeat(90)}@example.org`;
    return `author.${i}@example.org`;
  });
  const git = spawn("git", ["-C", path, "fast-import", "--quiet"], { stdio: ["pipe", "ignore", "inherit"] });
  const ended = once(git, "exit");
  const mailmap = "Proper Name <author.10@example.org> <author.11@example.org>\n";
  let out = `blob\nmark :1\ndata ${Buffer.byteLength(mailmap)}\n${mailmap}\n`;
  const today = 1_760_000_000;
  for (let i = 0; i < o.commits; i++) {
    const author = i < o.authors ? i : next(o.authors);
    let email = emails[author] as string;
    if (next(5) === 0) email = email.toUpperCase();
    const name = `${names[author % names.length]} ${i > o.commits - 200 ? "II" : author}`;
    const at = i === 5 ? 0 : Math.floor((today / o.commits) * i) + next(86_400);
    const message = `commit ${i}`;
    out +=
      `commit refs/heads/main\nmark :${i + 2}\nauthor ${name} <${email}> ${at} +0200\n` +
      `committer C <c@example.org> ${1_000_000_000 + i} +0000\ndata ${message.length}\n${message}\n` +
      (i === 0 ? "M 100644 :1 .mailmap\n" : `from :${i + 1}\n`);
    if (out.length > 1 << 20) {
      if (!git.stdin.write(out)) await once(git.stdin, "drain");
      out = "";
    }
  }
  git.stdin.end(out);
  const [code] = await ended;
  if (code !== 0) throw new Error(`git fast-import ended with ${code}`);
  execFileSync("git", ["-C", path, "reset", "-q", "--hard", "main"]);
}
