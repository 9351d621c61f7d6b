import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
const TIMEOUT_MS = 60_000;

/** kubectl on one namespace of one context. */
export class Kubectl {
  readonly context: string;
  readonly namespace: string;

  constructor(context: string, namespace: string) {
    this.context = context;
    this.namespace = namespace;
  }

  arguments(...words: string[]): string[] {
    return ["--context", this.context, "--namespace", this.namespace, ...words];
  }

  /** Runs it and returns what it printed. Rejects with what it complained of. */
  async run(...words: string[]): Promise<string> {
    const { stdout } = await run("kubectl", this.arguments(...words), {
      timeout: TIMEOUT_MS,
      maxBuffer: 256 * 1024 * 1024,
    });
    return stdout;
  }

  async json<T>(...words: string[]): Promise<T> {
    return JSON.parse(await this.run(...words, "-o", "json")) as T;
  }

  /** A shell command in a pod. */
  exec(pod: string, script: string): Promise<string> {
    return this.run("exec", pod, "--", "sh", "-c", script);
  }

  /** The first running pod with these labels. */
  async pod(selector: string): Promise<string> {
    const { items } = await this.json<{ items: { metadata: { name: string } }[] }>(
      "get",
      "pods",
      "-l",
      selector,
      "--field-selector",
      "status.phase=Running",
    );
    const name = items[0]?.metadata.name;
    if (!name) throw new Error(`no running pod has the labels ${selector}`);
    return name;
  }
}
