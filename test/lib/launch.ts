import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = new URL("../..", import.meta.url).pathname;

/** A port nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as { port: number };
  await new Promise((done) => server.close(done));
  return port;
}

export interface Launched {
  url: string;
  operatorToken: string;
  home: string;
  launcher: ChildProcess;
  /** Everything the launcher said. */
  output(): string;
  /** Ctrl-C, as a person would. Resolves with the exit status. */
  stop(): Promise<number | null>;
}

/** Runs `npm start`'s command with a home of its own and waits until it says that it is ready. */
export async function launch(
  options: { home?: string; env?: Record<string, string>; withinMs?: number } = {},
): Promise<Launched> {
  const home = options.home ?? mkdtempSync(join(tmpdir(), "quartet-system-"));
  const port = await freePort();
  const launcher = spawn(process.execPath, ["packages/cli/src/main.ts", "start"], {
    cwd: root,
    // Not warmed up: what is asserted does not hang on the clock, and every start would take ten seconds longer.
    env: {
      ...process.env,
      QUARTET_HOME: home,
      QUARTET_PORTS: "random",
      PORT: String(port),
      WARM_UP_MS: "0",
      ...options.env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  const exited = new Promise<number | null>((done) => launcher.on("exit", done));
  await new Promise<void>((ready, fail) => {
    const timer = setTimeout(() => fail(new Error(`not ready in time:\n${said}`)), options.withinMs ?? 420_000);
    const hear = (data: Buffer) => {
      said += data.toString();
      if (said.includes("Quartet is ready")) {
        clearTimeout(timer);
        ready();
      }
    };
    launcher.stdout?.on("data", hear);
    launcher.stderr?.on("data", hear);
    void exited.then((code) => fail(new Error(`the launcher exited with ${code}:\n${said}`)));
  });
  return {
    url: `http://127.0.0.1:${port}`,
    operatorToken: readFileSync(join(home, "operator-token"), "utf8").trim(),
    home,
    launcher,
    output: () => said,
    async stop() {
      launcher.kill("SIGINT");
      return exited;
    },
  };
}

/** Removes a home made by launch(). */
export function forget(home: string): void {
  rmSync(home, { recursive: true, force: true });
}
