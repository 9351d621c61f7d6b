import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import {
  ENGINE_NAMES,
  type Engine,
  EngineStartError,
  EngineUnavailableError,
  fetchEngines,
  reapOrphans,
} from "@quartet/engines";
import { homeFolder, UsageError } from "./client.ts";
import { reviveAll } from "./control.ts";
import { startControlServer } from "./control-server.ts";
import { Demo } from "./demo.ts";
import { consoleToken, leaveHome, operatorToken, takeHome, trimLogs, wipeHome, writeRunFile } from "./home.ts";
import { type ServiceProcess, ServiceStartError } from "./service.ts";
import { Supervisor } from "./supervisor.ts";
import { assemble, choosePorts, localEngines } from "./system.ts";
import { Terminal } from "./terminal.ts";

const READY_TIMEOUT_MS = 180_000;
const TRIM_LOGS_EVERY_MS = 10_000;
/** npm passes a Ctrl-C on that the terminal has already sent: only one that comes later is a second one. */
const SECOND_SIGNAL_AFTER_MS = 1_500;

/** Errors whose message says all there is to say. */
const KNOWN = [EngineUnavailableError, EngineStartError, ServiceStartError, UsageError];

/** Thrown to leave the start when a signal came meanwhile. */
class Interrupted extends Error {}

/**
 * `npm start [-- --fresh]`: brings up the engines and the services, prints where the system is, and keeps it running until Ctrl-C or SIGTERM.
 * Exit code 0 after an orderly stop, 1 if it could not start, 2 for a mistake in the call.
 */
export async function main(args: string[]): Promise<void> {
  const { fresh } = readArguments(args);
  const home = homeFolder();
  const terminal = new Terminal();
  takeHome(home);
  const left = await reapOrphans(home);
  if (left.length > 0) terminal.say(`Ended what an earlier run left behind: ${left.join(", ")}`);
  reviveAll(home);
  if (fresh) wipeHome(home);

  const supervisor = new Supervisor({ home, say: (line) => terminal.say(`  ${line}`), changed: () => record() });
  let record = () => {};
  let engines: Engine[] = [];
  let services: ServiceProcess[] = [];
  let endOrders = () => {};
  const downloads = new AbortController();
  const trimmer = setInterval(() => trimLogs(home), TRIM_LOGS_EVERY_MS);

  let starting: Promise<unknown> = Promise.resolve();

  const stop = async () => {
    downloads.abort();
    endOrders();
    record = () => {};
    const gateway = services.filter((service) => service.name === "gateway");
    const behind = services.filter((service) => service.name !== "gateway");
    const broker = engines.filter((engine) => engine.name === "nats");
    const stores = engines.filter((engine) => engine.name !== "nats");
    // Nothing new comes in, the services finish and hand over what they have, then what they wrote to stops.
    await supervisor.stop([gateway, behind, stores, broker]);
    // A download that was cut short still tidies up after itself.
    await Promise.race([starting.catch(() => {}), sleep(5_000)]);
    clearInterval(trimmer);
    leaveHome(home);
  };
  const interrupted = onSignal(terminal, stop, () => supervisor.killNow());

  try {
    const ports = await choosePorts();
    engines = localEngines(home);
    starting = startEngines(engines, terminal, downloads.signal);
    await Promise.race([starting, interrupted]);
    for (const engine of engines) supervisor.watch(engine, () => engine.isReady());
    let address = "";
    const demo = new Demo(() => ({ url: address, operatorToken: operatorToken(home) }));
    const running = () => engines.map((engine) => engine.name);
    const control = await startControlServer({ home, engines: running, all: ENGINE_NAMES, demo });
    endOrders = () => {
      demo.stop();
      control.close();
    };
    const system = assemble(home, engines, ports, control);
    address = system.url;
    services = system.services;
    record = () => writeRunFile(home, system.runFile());
    starting = startServices(services);
    await Promise.race([starting, interrupted]);
    for (const service of services) supervisor.watch(service, () => service.isAlive());
    record();
    await Promise.race([untilReady(services), interrupted]);
    welcome(terminal, system.url, consoleToken(home));
  } catch (error) {
    if (error instanceof Interrupted) return await interrupted.catch(() => {});
    const known = KNOWN.some((kind) => error instanceof kind);
    terminal.error(`Quartet does not start: ${known ? (error as Error).message : ((error as Error).stack ?? error)}`);
    await stop();
    process.exit(1);
  }
}

function readArguments(args: string[]): { fresh: boolean } {
  try {
    const { values } = parseArgs({ args, options: { fresh: { type: "boolean", default: false } } });
    return { fresh: values.fresh };
  } catch (error) {
    throw new UsageError(`${(error as Error).message}. Usage: npm start [-- --fresh]`);
  }
}

/**
 * SIGINT, SIGTERM and SIGHUP stop the system in order and end this process; a second one, later, kills everything at once. The returned
 * promise rejects with Interrupted when the first comes.
 */
function onSignal(terminal: Terminal, stop: () => Promise<void>, killNow: () => void): Promise<never> {
  let first = 0;
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {});
  const handle = async (signal: string) => {
    if (first > 0) {
      if (Date.now() - first < SECOND_SIGNAL_AFTER_MS) return;
      killNow();
      process.exit(1);
    }
    first = Date.now();
    reject(new Interrupted(signal));
    terminal.say("Stopping ...");
    await stop();
    terminal.say("Quartet has stopped.");
    process.exit(0);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, handle);
  return promise;
}

async function startEngines(engines: Engine[], terminal: Terminal, signal: AbortSignal): Promise<void> {
  const names = engines.map((engine) => engine.name);
  terminal.say(`Starting ${names.length > 0 ? names.join(", ") : "no engine (all come from outside)"} ...`);
  await fetchEngines(names, { onProgress: (progress) => terminal.fetching(progress), signal });
  const settled = await Promise.allSettled(engines.map((engine) => engine.start()));
  const failed = settled.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

async function startServices(services: ServiceProcess[]): Promise<void> {
  const settled = await Promise.allSettled(services.map((service) => service.start()));
  const failed = settled.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

async function untilReady(services: ServiceProcess[]): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  let waiting = services;
  while (waiting.length > 0) {
    const ready = await Promise.all(waiting.map((service) => service.isReady()));
    waiting = waiting.filter((_, index) => !ready[index]);
    if (Date.now() > deadline) {
      const names = waiting.map((service) => service.name).join(", ");
      throw new UsageError(`not ready after ${READY_TIMEOUT_MS / 1000} s: ${names} (see the logs folder)`);
    }
    if (waiting.length > 0) await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function welcome(terminal: Terminal, url: string, token: string): void {
  terminal.say(`
Quartet is ready at ${url}

Watch it live, with the right to break it (the link carries this console's token):
  ${url}/#token=${token}

Try next:
  1. open that link and press "Run demo load": every event is seen on its way from PostgreSQL and Redis to the other stores
  2. kill Elasticsearch there: search is down, all else goes on; revive it and the backlog drains
  3. npm run import -- git .        (this repository's authors become users, its commits events)

Ctrl-C stops it.`);
}
