import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../lib/client.ts";
import { type Run, root, run } from "./kube.ts";

/** A command as a page has it. */
export interface Command {
  page: string;
  command: string;
}

const IN_TEXT =
  /^(?:npm run|npx|kubectl|helm|k8s\/|kind|minikube|skaffold|tilt|curl|[A-Z_]+=|SELECT|ROLLBACK|ALTER|GET) ?\S/;

/** The commands of a page: each line of its `sh` blocks, and what stands between backticks in its text and begins as a command does. */
export function commandsOf(page: string): Command[] {
  const found: string[] = [];
  let block: string | undefined;
  let text = "";
  for (const line of readFileSync(join(root, page), "utf8").split("\n")) {
    if (line.startsWith("```")) block = block === undefined ? line.slice(3) : undefined;
    else if (block === undefined) text += `${line}\n`;
    else if (block === "sh" || block === "console") found.push(line);
  }
  const fenced = found.join("\n").replaceAll("\\\n", " ").split("\n");
  const spans = [...text.matchAll(/`([^`]+)`/g)].map(([, span]) => span!.replaceAll(/\s+/g, " "));
  const all = [
    ...fenced.map((line) => line.replace(/\s+#.*$/, "").trim()),
    ...spans.filter((span) => IN_TEXT.test(span)),
  ];
  return [...new Set(all)].filter((line) => line && !line.startsWith("#")).map((command) => ({ page, command }));
}

/** The pages about a cluster: those of k8s/, of every chart, and the runbooks. */
export function clusterPages(): string[] {
  const below = (folder: string, name: RegExp) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((file) => name.test(file) && !/node_modules|\/charts\//.test(file))
      .map((file) => `${folder}/${file}`);
  return [
    ...below("k8s", /README\.md$/),
    ...below("charts", /^\w+\/README\.md$/),
    ...below("docs/runbooks", /\.md$/),
  ].sort();
}

/** The commands of a release's notes: its lines that begin with two spaces. */
export const commandsOfNotes = (chart: string, notes: string): Command[] =>
  notes
    .split("\n")
    .filter((line) => /^ {2}\S/.test(line))
    .map((line) => ({ page: `charts/${chart}/templates/NOTES.txt`, command: line.trim() }));

/** A shell in which `kubectl` speaks of one namespace by itself, `helm` is the given one (a path, or the one of PATH), and `quartet` as a namespace is that one. */
export function openTerminal(namespace: string, helm: string, env: NodeJS.ProcessEnv = {}) {
  const folder = mkdtempSync(join(tmpdir(), "quartet-commands-"));
  mkdirSync(join(folder, "bin"));
  if (helm.includes("/")) symlinkSync(helm, join(folder, "bin/helm"));
  const kubeconfig = join(folder, "kubeconfig");
  const of = {
    ...process.env,
    KUBECONFIG: kubeconfig,
    PATH: `${folder}/bin:${root}node_modules/.bin:${process.env.PATH}`,
    ...env,
  };
  const here = (command: string) =>
    command.replaceAll(/(-n |--namespace |NAMESPACE=|delete namespace )quartet(?![\w-])/g, `$1${namespace}`);
  const ready = (async () => {
    writeFileSync(kubeconfig, await run("kubectl", ["config", "view", "--minify", "--flatten", "--raw"]), {
      mode: 0o600,
    });
    await run("kubectl", ["config", "set-context", "--current", `--namespace=${namespace}`], { env: of });
  })();
  return {
    /** Runs a command as it stands; resolves to what it said. */
    async run(command: string, o: Run = {}): Promise<string> {
      await ready;
      return run("bash", ["-euo", "pipefail", "-c", here(command)], {
        timeoutMs: 620_000,
        ...o,
        env: { ...of, ...o.env },
      });
    },
    /** Runs a command that goes on until it is ended, such as a port-forward, until something answers at `url`. */
    async runUntil(command: string, url: string): Promise<void> {
      await ready;
      const child = spawn("bash", ["-c", `exec ${here(command)}`], { cwd: root, env: of, stdio: "ignore" });
      try {
        await eventually(`${command}: ${url}`, () => fetch(url).then((answer) => answer.ok));
      } finally {
        child.kill();
      }
    },
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export type Terminal = ReturnType<typeof openTerminal>;
