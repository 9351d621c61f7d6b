import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { PostgresRelayStatus, RedisRelayStatus } from "../../src/index.ts";
import { natsOptions, type World } from "./world.ts";

const PROGRAM = fileURLToPath(new URL("./relayProcess.ts", import.meta.url));

/** A relay in a process of its own. */
export class RelayProcess<S> {
  readonly child: ChildProcess;
  log = "";

  constructor(options: object) {
    this.child = fork(PROGRAM, {
      env: { ...process.env, RELAY_OPTIONS: JSON.stringify(options) },
      execArgv: ["--max-old-space-size=256"],
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on("data", (chunk: Buffer) => {
        this.log += chunk.toString();
        if (process.env.RELAY_LOG) process.stderr.write(chunk);
      });
    }
    living.add(this);
  }

  /** Rejects if the process is gone or says nothing for five seconds. */
  status(): Promise<S> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no status")), 5_000);
      this.child.once("message", (status) => {
        clearTimeout(timer);
        resolve(status as S);
      });
      this.child.send("status", (error) => error && reject(error));
    });
  }

  freeze(): void {
    this.child.kill("SIGSTOP");
  }

  thaw(): void {
    this.child.kill("SIGCONT");
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    living.delete(this);
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill(signal);
    await gone;
  }

  kill(): Promise<void> {
    return this.end("SIGKILL");
  }
}

const living = new Set<RelayProcess<unknown>>();

/** For afterEach: no test leaves a process behind. */
export async function killAll(): Promise<void> {
  await Promise.all([...living].map((relay) => relay.kill()));
}

export function postgresRelay(world: World, natsUrl: string, options: object = {}): RelayProcess<PostgresRelayStatus> {
  return new RelayProcess({
    kind: "postgres",
    connectionString: world.databaseUrl,
    slot: world.slot,
    publication: "outbox_pub",
    nats: natsOptions(natsUrl),
    streams: world.streams,
    standbyPollMs: 50,
    walSenderTimeoutMs: 2_000,
    ackTimeoutMs: 2_000,
    checkpointMs: 200,
    maxBackoffMs: 300,
    ...options,
  });
}

export function redisRelay(options: object): RelayProcess<RedisRelayStatus> {
  return new RelayProcess({
    kind: "redis",
    leaseMs: 1_500,
    ackTimeoutMs: 2_000,
    checkpointMs: 200,
    maxBackoffMs: 300,
    ...options,
  });
}
