import { pbkdf2Sync, randomBytes } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkRuntime } from "./clients.ts";
import { type EngineLaunch, type EngineOptions, LocalEngine } from "./engine.ts";
import { findJdk } from "./java.ts";
import { choosePort } from "./ports.ts";

/** Java heap in MB. */
const HEAP_MB = 384;

const JVM_OPTIONS = [
  `-Xms${HEAP_MB / 2}m`,
  `-Xmx${HEAP_MB}m`,
  // One collector thread and no remembered sets: the smallest footprint for a heap of this size.
  "-XX:+UseSerialGC",
  // Elasticsearch touches its whole heap at start by default; here memory is taken when it is needed.
  "-XX:-AlwaysPreTouch",
  // The second compiler takes a core for minutes, which two cores do not have: without it searches of a young node are three times as fast.
  "-XX:TieredStopAtLevel=1",
  // And the first compiles a method after a tenth of the usual calls: a young node spends a quarter of its time interpreting else, and the first people
  // wait two seconds for what they wrote.
  "-XX:CompileThresholdScaling=0.1",
  "-XX:+ExitOnOutOfMemoryError",
  // Elasticsearch would copy its built-in roles into an index whose analyzer this distribution does not have.
  "-Des.queryable_built_in_roles_enabled=false",
  "--add-modules=jdk.incubator.vector",
];

const LOGGING = `status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.node.name = org.elasticsearch.node.Node
logger.node.level = info
logger.checks.name = org.elasticsearch.bootstrap.BootstrapChecks
logger.checks.level = error
logger.telemetry.name = io.opentelemetry.usage
logger.telemetry.level = error
`;

/** `search_service` owns every index, and nothing of the cluster but its health and its index templates. */
const ROLES = `search:
  cluster: [monitor, manage_index_templates]
  indices:
    - names: ["*"]
      privileges: [all]
`;

/** What `bin/elasticsearch` works out before it starts the server's JVM. */
interface LaunchPlan {
  command: string[];
  env: Record<string, string>;
  /** Goes to the server's standard input. */
  serverArguments: Buffer;
}

/** Reads Java's DataOutputStream. */
class JavaReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  int(): number {
    this.#at += 4;
    return this.#bytes.readInt32BE(this.#at - 4);
  }

  boolean(): boolean {
    this.#at += 1;
    return this.#bytes[this.#at - 1] === 1;
  }

  text(): string {
    const length = this.#bytes.readUInt16BE(this.#at);
    this.#at += 2 + length;
    return this.#bytes.toString("utf8", this.#at - length, this.#at);
  }

  list(): string[] {
    return Array.from({ length: this.int() }, () => this.text());
  }

  bytes(): Buffer {
    const length = this.int();
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

/** The launch descriptor of Elasticsearch 9.5: magic number, command, JVM options, arguments, environment, folders, flag, arguments. */
function readPlan(bytes: Buffer): LaunchPlan {
  const reader = new JavaReader(bytes);
  reader.int();
  const command = [reader.text(), ...reader.list(), ...reader.list()];
  const env = Object.fromEntries(Array.from({ length: reader.int() }, () => [reader.text(), reader.text()]));
  reader.text();
  reader.text();
  reader.boolean();
  return { command, env, serverArguments: Buffer.from(reader.bytes()) };
}

/** A line of the file realm's `users`, with the password hashed as Elasticsearch's own tool does. */
function userLine(name: string, password: string): string {
  // The passwords are random and long: more rounds would only make the first request slower.
  const rounds = 1_000;
  const salt = randomBytes(32);
  const hash = pbkdf2Sync(password, salt, rounds, 32, "sha512");
  return `${name}:{PBKDF2}${rounds}$${salt.toString("base64")}$${hash.toString("base64")}\n`;
}

/**
 * Elasticsearch, one node, with its own security: accounts of the file realm, `search_service` for the service. Its server JVM is started
 * directly, without the launcher that would stay beside it, so that one process is the engine.
 */
export class ElasticsearchEngine extends LocalEngine {
  readonly name = "elasticsearch";
  protected readonly defaultPort = 9200;
  protected override readonly startTimeoutMs = 180_000;
  protected override readonly stopTimeoutMs = 30_000;
  protected override readonly refusesRoot = true;
  #plan: { port: number; plan: LaunchPlan } | undefined;

  constructor(options: EngineOptions) {
    super("elasticsearch", options);
  }

  get url(): string {
    return `http://admin:${this.credentials.elasticsearch.admin}@127.0.0.1:${this.port}`;
  }

  urlFor(service: string): string {
    if (service !== "search") return this.refuse(service);
    return `http://search_service:${this.credentials.elasticsearch.search_service}@127.0.0.1:${this.port}`;
  }

  protected async prepare(folder: string): Promise<EngineLaunch> {
    checkRuntime(this.name);
    const jdk = findJdk()!;
    await this.#configure();
    if (this.#plan?.port !== this.port) this.#plan = { port: this.port, plan: await this.#makePlan(folder, jdk) };
    const { command, env, serverArguments } = this.#plan.plan;
    // The server ends when this pipe does, that is when the process that started it dies.
    return { command, env: { ...env, MALLOC_ARENA_MAX: "2" }, stdin: serverArguments };
  }

  async #configure(): Promise<void> {
    const config = join(this.dir, "config");
    for (const folder of [join(config, "jvm.options.d"), join(this.dir, "data"), join(this.dir, "logs")]) {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
    }
    rmSync(join(this.dir, "tmp"), { recursive: true, force: true });
    mkdirSync(join(this.dir, "tmp"), { mode: 0o700 });
    const settings = {
      "cluster.name": "quartet",
      "node.name": "quartet",
      "discovery.type": "single-node",
      "path.data": join(this.dir, "data"),
      "path.logs": join(this.dir, "logs"),
      "network.host": "127.0.0.1",
      "http.port": this.port,
      "transport.port": await choosePort(),
      // Closing a memory-mapped file stops every Java thread for a moment (a handshake of all of them), and each refresh of a busy index closes
      // several: on two cores a refresh took 300 ms with mapped files, and a tenth of that without.
      "node.store.allow_mmap": false,
      "xpack.security.enabled": true,
      "xpack.security.http.ssl.enabled": false,
      "xpack.security.transport.ssl.enabled": false,
      "xpack.security.authc.password_hashing.algorithm": "pbkdf2_1000",
      "cluster.routing.allocation.disk.threshold_enabled": false,
      "action.destructive_requires_name": true,
    };
    const write = (name: string, text: string) => writeFileSync(join(config, name), text, { mode: 0o600 });
    write(
      "elasticsearch.yml",
      Object.entries(settings)
        .map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`)
        .join(""),
    );
    write("jvm.options", `-Djava.io.tmpdir=\${ES_TMPDIR}\n${JVM_OPTIONS.join("\n")}\n`);
    write("log4j2.properties", LOGGING);
    const { admin, search_service } = this.credentials.elasticsearch;
    write("users", userLine("admin", admin) + userLine("search_service", search_service));
    write("users_roles", "superuser:admin\nsearch:search_service\n");
    write("roles.yml", ROLES);
  }

  /** Asks Elasticsearch's own preparer for the server's command line; takes a second or two, so it is kept for the restarts. */
  async #makePlan(folder: string, jdk: string): Promise<LaunchPlan> {
    const home = join(folder, "elasticsearch-9.5.3");
    const java = join(jdk, "bin", "java");
    const config = join(this.dir, "config");
    const properties = {
      "cli.name": "server",
      "cli.libs": "lib/tools/server-cli",
      "es.path.home": home,
      "es.path.conf": config,
      "es.distribution.type": "zip",
      "es.java.type": "ES_JAVA_HOME",
    };
    // The preparer leaves a file behind in its temporary folder each time: in ours, not in everybody's.
    const temporary = join(this.dir, "tmp");
    const options = [
      "-Xms4m",
      "-Xmx64m",
      "-XX:+UseSerialGC",
      "-XX:TieredStopAtLevel=1",
      `-Djava.io.tmpdir=${temporary}`,
    ];
    const flags = Object.entries(properties).map(([key, value]) => `-D${key}=${value}`);
    const path = ["-cp", `${join(home, "lib/*")}:${join(home, "lib/cli-launcher/*")}`];
    const command = [java, ...options, ...flags, ...path, "org.elasticsearch.launcher.CliToolLauncher"];
    const env = {
      PATH: process.env.PATH,
      HOME: this.dir,
      LANG: "C.UTF-8",
      ES_HOME: home,
      ES_PATH_CONF: config,
      ES_TMPDIR: temporary,
      ES_JAVA_HOME: jdk,
      ES_DISTRIBUTION_TYPE: "zip",
      ES_REDIRECT_STDOUT_TO_STDERR: "true",
    };
    return readPlan(await this.helper(command, env, home));
  }

  protected async probe(): Promise<void> {
    const authorization = `Basic ${Buffer.from(`admin:${this.credentials.elasticsearch.admin}`).toString("base64")}`;
    const url = `http://127.0.0.1:${this.port}/_cluster/health?wait_for_status=yellow&timeout=1s`;
    const response = await fetch(url, { headers: { authorization }, signal: AbortSignal.timeout(1_800) });
    await response.body?.cancel();
    if (!response.ok) throw new Error(`elasticsearch answers ${response.status}`);
  }
}
