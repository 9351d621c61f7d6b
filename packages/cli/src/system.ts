import { identityEnv } from "@quartet/contracts";
import {
  choosePort,
  createEngine,
  ENGINE_NAMES,
  ENGINE_URL_VARIABLES,
  type Engine,
  type EngineName,
  isPortFree,
  loadCredentials,
  NatsEngine,
} from "@quartet/engines";
import { UsageError } from "./client.ts";
import type { ControlAddress } from "./control-server.ts";
import { consoleToken, operatorToken, type RunFile } from "./home.ts";
import { type Role, SERVICE_NAMES, SERVICE_PORTS, SERVICE_ROLES, type ServiceName, ServiceProcess } from "./service.ts";

/** Which engines a service talks to. */
const NEEDS: Record<ServiceName, EngineName[]> = {
  user: ["postgres", "nats"],
  session: ["redis", "nats"],
  analytics: ["clickhouse", "nats"],
  search: ["elasticsearch", "nats"],
  gateway: [],
};

/** What the services must not inherit from the launcher's environment: secrets of others, and what npm adds. */
const NOT_INHERITED = new Set<string>([
  ...Object.values(ENGINE_URL_VARIABLES),
  ...SERVICE_NAMES.map((name) => `${name.toUpperCase()}_URL`),
  "IDENTITY_KEYS",
  "IDENTITY_PUBLIC_KEYS",
  "QUARTET_OPERATOR_TOKEN",
  "QUARTET_CONSOLE",
  "QUARTET_CONSOLE_TOKEN",
  "QUARTET_CONTROL_URL",
  "QUARTET_CONTROL_SECRET",
  "HOST",
  "PORT",
  "ADMIN_PORT",
  "ROLE",
]);

/** The parts of a local system: five engines (but those brought from outside) and five services, not yet started. */
export interface LocalSystem {
  engines: Engine[];
  services: ServiceProcess[];
  /** Where the gateway is. */
  url: string;
  runFile(): RunFile;
}

/** `QUARTET_PORTS=random`: no usual ports at all, so that several systems can start side by side without meeting. */
function randomPorts(): boolean {
  return process.env.QUARTET_PORTS === "random";
}

/** The engines that run here: all but those whose URL is in the environment. */
export function localEngines(home: string): Engine[] {
  return ENGINE_NAMES.filter((name) => !process.env[ENGINE_URL_VARIABLES[name]]).map((name) =>
    createEngine(name, { home, randomPort: randomPorts() }),
  );
}

/** `QUARTET_ROLES=split`: every role of a service is a process of its own, as in a cluster; else one process has all of a service's roles. */
function splitRoles(): boolean {
  return process.env.QUARTET_ROLES === "split";
}

/** The processes of a service beside its API, where roles are split: `QUARTET_PROJECTORS=2` gives every projector a second replica. */
function workersOf(name: ServiceName): { role: Role; replica: number }[] {
  const projectors = Number(process.env.QUARTET_PROJECTORS ?? 1);
  return SERVICE_ROLES[name]
    .filter((role) => role !== "api")
    .flatMap((role) =>
      Array.from({ length: role === "projector" ? projectors : 1 }, (_, i) => ({ role, replica: i + 1 })),
    );
}

/**
 * Where the services reach an engine: its own address, or what `QUARTET_VIA_<ENGINE>=host:port` names, so that something that can cut or slow the
 * connection may stand between.
 */
function reachedVia(engine: EngineName, url: string): string {
  const via = process.env[`QUARTET_VIA_${engine.toUpperCase()}`];
  return via ? url.replace(/@[^@/]+(?=\/|$)/, `@${via}`) : url;
}

interface Ports {
  port: number;
  adminPort: number;
}
export type ServicePorts = Record<ServiceName, Ports & { workers: Ports[] }>;

/** Chooses the services' ports. Throws UsageError if PORT was given and is taken. */
export async function choosePorts(): Promise<ServicePorts> {
  const taken = new Set<number>();
  const choose = async (preferred: number | undefined) => {
    let port = await choosePort(preferred);
    while (taken.has(port)) port = await choosePort();
    taken.add(port);
    return port;
  };
  const given = process.env.PORT;
  if (given !== undefined && !(/^\d+$/.test(given) && Number(given) > 0 && Number(given) < 65_536)) {
    throw new UsageError(`PORT=${given} is not a port (1 to 65535).`);
  }
  if (given !== undefined && !(await isPortFree(Number(given)))) {
    throw new UsageError(`Port ${given} (PORT) is taken by another program: choose another, or leave PORT out.`);
  }
  const ports = {} as ServicePorts;
  // The gateway first: its port is the one that people know.
  for (const name of SERVICE_NAMES.toReversed()) {
    const usual = randomPorts() ? undefined : SERVICE_PORTS[name];
    const port = await choose(name === "gateway" && given !== undefined ? Number(given) : usual);
    ports[name] = { port, adminPort: await choose(port + 1000 < 65_536 ? port + 1000 : port - 1000), workers: [] };
  }
  for (const name of splitRoles() ? SERVICE_NAMES : []) {
    for (const _ of workersOf(name)) {
      ports[name].workers.push({ port: await choose(undefined), adminPort: await choose(undefined) });
    }
  }
  return ports;
}

/** Puts the services together with the addresses and credentials of the engines, which run already. */
export function assemble(home: string, engines: Engine[], ports: ServicePorts, control: ControlAddress): LocalSystem {
  const base = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !NOT_INHERITED.has(name) && !name.startsWith("npm_")),
  );
  const peers = Object.fromEntries(
    SERVICE_NAMES.filter((name) => name !== "gateway").map((name) => [
      `${name.toUpperCase()}_URL`,
      `http://127.0.0.1:${ports[name].port}`,
    ]),
  );
  const token = operatorToken(home);
  const credentials = loadCredentials(home);
  const forGateway = {
    QUARTET_OPERATOR_TOKEN: token,
    QUARTET_CONSOLE: process.env.QUARTET_CONSOLE ?? "local",
    QUARTET_CONSOLE_TOKEN: consoleToken(home),
    QUARTET_CONTROL_URL: control.url,
    QUARTET_CONTROL_SECRET: control.secret,
  };
  const broker = engines.find((engine) => engine.name === "nats");
  const services = SERVICE_NAMES.flatMap((name) => {
    const stores = NEEDS[name].map((engine) => {
      const variable = ENGINE_URL_VARIABLES[engine];
      const local = engines.find((candidate) => candidate.name === engine);
      return [variable, local ? reachedVia(engine, local.urlFor(name)) : process.env[variable]];
    });
    const env = {
      ...base,
      ...peers,
      ...Object.fromEntries(stores),
      ...identityEnv(credentials.identity, name),
      ...(name === "gateway" ? forGateway : {}),
      // Both follow from one number. Of a NATS from outside only the environment can tell.
      ...(name === "user" && broker instanceof NatsEngine ? { NATS_STORE_BYTES: String(broker.storeBytes) } : {}),
      // A fresh Java engine would make the first minute look slow; a wish from the environment wins.
      ...(name === "search" ? { WARM_UP_MS: process.env.WARM_UP_MS ?? "10000" } : {}),
    };
    const { port, adminPort, workers } = ports[name];
    if (!splitRoles()) return [new ServiceProcess(name, { home, port, adminPort, env })];
    return [
      new ServiceProcess(name, { home, port, adminPort, env, role: "api" }),
      ...workersOf(name).map((worker, i) => new ServiceProcess(name, { home, ...workers[i]!, env, ...worker })),
    ];
  });
  const url = `http://127.0.0.1:${ports.gateway.port}`;
  const startedAt = new Date().toISOString();
  const runFile = (): RunFile => ({
    url,
    startedAt,
    launcher: process.pid,
    engines: Object.fromEntries(
      ENGINE_NAMES.map((name) => {
        const local = engines.find((engine) => engine.name === name);
        return [name, local ? { port: local.port, pid: local.pid } : { port: 0, external: true }];
      }),
    ),
    services: Object.fromEntries(
      services.map((service) => [service.name, { port: service.port, adminPort: service.adminPort, pid: service.pid }]),
    ),
  });
  return { engines, services, url, runFile };
}
