import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type Identities, type IdentityHolder, identityEnv, makeIdentities } from "@quartet/contracts";
import { z } from "zod";
import { identityConfig, parseConfig } from "./config.ts";
import { identityHeader } from "./identity.ts";
import { createKeyring, type Identity, type Keyring } from "./keyring.ts";

/** For tests: a service as its own process, called as the gateway or another service would call it. */
const identities = makeIdentities();

/** A keyring of one of the services of the tests, with keys made for this run. */
export function keyringOf(service: IdentityHolder, keys: Identities = identities): Keyring {
  return createKeyring(service, parseConfig(z.object(identityConfig), identityEnv(keys, service)));
}

/** What a service is given of these keys, as its environment. */
export const identityOfTests = (service: string) => identityEnv(identities, service as IdentityHolder);

/** Signed by who may say so: a service speaks for itself, people and the operator are the gateway's to name. */
export function signAs(identity: Identity, audience: string): string {
  const signer = identity.kind === "service" ? identity.name : "gateway";
  return keyringOf(signer as IdentityHolder).sign(identity, audience);
}

export interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into whatever came
  body: any;
  ms: number;
}

export interface Call {
  as?: Identity;
  body?: unknown;
  headers?: Record<string, string>;
}

/** A service as its own process, as in production. */
export interface ServiceProcess {
  readonly url: string;
  readonly adminUrl: string;
  readonly log: string;
  call(method: string, path: string, call?: Call): Promise<Answer>;
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
    env: { PATH: process.env.PATH, PORT: "0", ADMIN_PORT: "0", ...identityOfTests(name), LOG_LEVEL: "debug", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  living.add(child);
  child.once("exit", () => living.delete(child));
  let log = "";
  let urls: { url?: string; admin: string } | undefined;
  let partial = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    log += chunk;
  });
  child.stdout?.on("data", (chunk: Buffer) => {
    log += chunk;
    const lines = (partial + chunk).split("\n");
    partial = lines.pop() ?? "";
    for (const line of lines) {
      if (urls || !line.includes('"listening"')) continue;
      urls = JSON.parse(line) as { url?: string; admin: string };
    }
  });
  const found = await eventually(() => {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}:\n${log}`);
    return urls;
  });
  const { url = "", admin } = found;
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const gone = once(child, "exit");
    child.kill(signal);
    await gone;
    return child.exitCode;
  };
  return {
    url,
    adminUrl: admin,
    get log() {
      return log;
    },
    async call(method, path, { as, body, headers = {} } = {}) {
      const from = performance.now();
      const raw = typeof body === "string";
      const response = await fetch(url + path, {
        method,
        headers: {
          ...(as ? { [identityHeader]: signAs(as, name) } : {}),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: raw ? body : JSON.stringify(body) }),
      });
      const text = await response.text();
      const json = /json/.test(response.headers.get("content-type") ?? "");
      return {
        status: response.status,
        headers: response.headers,
        body: json ? JSON.parse(text) : text,
        ms: performance.now() - from,
      };
    },
    ready: async () => (await fetch(`${admin}/readyz`).catch(() => undefined))?.status === 200,
    stop: () => end("SIGTERM"),
    kill: async () => void (await end("SIGKILL")),
  };
}

/** What `look` returns as soon as it is neither undefined nor false; an error of `look` passes on. */
export async function eventually<T>(
  look: () => T | null | undefined | false | Promise<T | null | undefined | false>,
  { withinMs = 30_000, what = "it" }: { withinMs?: number; what?: string } = {},
): Promise<T> {
  for (const deadline = performance.now() + withinMs; ; await sleep(20)) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`${what} did not come about within ${withinMs} ms`);
  }
}
