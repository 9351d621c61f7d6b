import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { identityEnv, makeIdentities } from "@quartet/contracts";
import { type JetStreamManager, type NatsConnection, NatsError } from "nats";

const ROOT = new URL("..", import.meta.url).pathname;
/** As the launcher gives every service. */
const HEAP_MB = 192;
const LOOK_MS = 10;

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** A service as the process that it is in production, with nothing in it but its projector. */
export interface ProjectorProcess {
  /** Throws, with what it logged, if it ended by itself. */
  check(): void;
  /** SIGTERM, and SIGKILL if it takes longer than ten seconds. */
  stop(): Promise<void>;
}

export function startProjector(
  service: "search" | "session" | "analytics",
  env: Record<string, string>,
): ProjectorProcess {
  const child = spawn(process.execPath, [`--max-old-space-size=${HEAP_MB}`, `services/${service}/src/main.ts`], {
    cwd: ROOT,
    env: {
      PATH: process.env.PATH,
      ROLE: "projector",
      PORT: "0",
      ADMIN_PORT: "0",
      LOG_LEVEL: "warn",
      ...identityEnv(makeIdentities(), service),
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  living.add(child);
  child.once("exit", () => living.delete(child));
  let log = "";
  const hear = (chunk: Buffer) => {
    log = (log + chunk).slice(-4_000);
  };
  child.stdout?.on("data", hear);
  child.stderr?.on("data", hear);
  return {
    check() {
      if (!living.has(child)) throw new Error(`${service} ended with ${child.exitCode ?? child.signalCode}:\n${log}`);
    },
    async stop() {
      if (!living.has(child)) return;
      const gone = once(child, "exit");
      child.kill("SIGTERM");
      const late = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await gone;
      clearTimeout(late);
    },
  };
}

/** Lets a service read its stream from the beginning the next time it starts. */
export async function forgetConsumer(nc: NatsConnection, stream: string, consumer: string): Promise<void> {
  const jsm = await nc.jetstreamManager({ timeout: 10_000 });
  await jsm.consumers.delete(stream, consumer).catch((error: unknown) => {
    if (!isMissing(error)) throw error;
  });
}

function isMissing(error: unknown): boolean {
  return error instanceof NatsError && error.api_error?.code === 404;
}

async function lookAt(jsm: JetStreamManager, stream: string, consumer: string) {
  try {
    return await jsm.consumers.info(stream, consumer);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/**
 * Waits until the consumer has acknowledged everything the stream holds. Returns messages per second, from its first delivery (the start of the
 * process is not its work) to its last ack, seen from the server.
 */
export async function catchUp(
  nc: NatsConnection,
  { stream, consumer, messages }: { stream: string; consumer: string; messages: number },
  projector: ProjectorProcess,
  withinMs = 90_000,
): Promise<number> {
  const jsm = await nc.jetstreamManager({ timeout: 10_000 });
  const deadline = performance.now() + withinMs;
  let first: { at: number; already: number; life: string } | undefined;
  for (;;) {
    const info = await lookAt(jsm, stream, consumer);
    const now = performance.now();
    if (info && info.delivered.stream_seq > 0 && first?.life !== info.created) {
      first = { at: now, already: info.ack_floor.consumer_seq, life: info.created };
    }
    if (first && info?.num_pending === 0 && info.num_ack_pending === 0) {
      return (messages - first.already) / ((now - first.at) / 1000);
    }
    if (now > deadline) throw new Error(`${consumer} has not caught up within ${withinMs} ms`);
    projector.check();
    await sleep(LOOK_MS);
  }
}
