import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type Identity, identityHeader, signIdentity } from "@quartet/service";

export const SECRET = "a-secret-of-this-test-and-of-no-other-thing";

export interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into whatever came
  body: any;
  ms: number;
}

/** A service as its own process, as in production. */
export interface ServiceProcess {
  readonly log: string;
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  call(method: string, path: string, body?: unknown, as?: Identity): Promise<Answer>;
  ready(): Promise<boolean>;
  stop(): Promise<number | null>;
  kill(): Promise<void>;
}

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** Starts `src/main.ts` on free ports and returns once it listens. */
export async function startService(name: string, main: URL, env: Record<string, string>): Promise<ServiceProcess> {
  const child = spawn(process.execPath, [main.pathname], {
    env: { PATH: process.env.PATH, PORT: "0", ADMIN_PORT: "0", INTERNAL_SECRET: SECRET, LOG_LEVEL: "debug", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  living.add(child);
  child.once("exit", () => living.delete(child));
  let log = "";
  let partial = "";
  let urls: { url?: string; admin: string } | undefined;
  child.stderr?.on("data", (chunk: Buffer) => {
    log += chunk;
  });
  child.stdout?.on("data", (chunk: Buffer) => {
    log = (log + chunk).slice(-200_000);
    const lines = (partial + chunk).split("\n");
    partial = lines.pop() ?? "";
    for (const line of lines) if (!urls && line.includes('"listening"')) urls = JSON.parse(line);
  });
  const { url = "", admin } = await eventually(() => {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}:\n${log}`);
    return urls;
  });
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const gone = once(child, "exit");
    child.kill(signal);
    await gone;
    return child.exitCode;
  };
  const ask = async (
    method: string,
    path: string,
    headers: Record<string, string>,
    body?: unknown,
  ): Promise<Answer> => {
    const from = performance.now();
    const response = await fetch(url + path, {
      method,
      headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text.startsWith("{") ? JSON.parse(text) : text,
      ms: performance.now() - from,
    };
  };
  return {
    get log() {
      return log;
    },
    get: (path, headers = {}) => ask("GET", path, headers),
    call: (method, path, body, as = { kind: "service", name: "user" }) =>
      ask(method, path, { [identityHeader]: signIdentity(as, { audience: name, secret: SECRET }) }, body),
    ready: async () => (await fetch(`${admin}/readyz`).catch(() => undefined))?.status === 200,
    stop: () => end("SIGTERM"),
    kill: async () => void (await end("SIGKILL")),
  };
}

/** What `look` returns as soon as it is neither undefined nor false; an error of `look` passes on. */
export async function eventually<T>(
  look: () => T | null | undefined | false | Promise<T | null | undefined | false>,
  { withinMs = 180_000, what = "it" }: { withinMs?: number; what?: string } = {},
): Promise<T> {
  for (const deadline = performance.now() + withinMs; ; await sleep(20)) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`${what} did not come about within ${withinMs} ms`);
  }
}
