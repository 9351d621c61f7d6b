import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { copyDatabase, createTestEngine, type TestEngine } from "@quartet/engines";
import type { Identity } from "@quartet/service";
import { identityOfTests, signAs } from "@quartet/service/testing";
import { connect, type NatsConnection, type StoredMsg } from "nats";
import pg from "pg";
import { Participant } from "./participants.ts";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into by the assertions
export type Json = any;

export interface Answer {
  status: number;
  headers: Headers;
  body: Json;
}

/** Polls until `look` returns something other than undefined and false. Throws with the last error or answer after `ms`. */
export async function eventually<T>(
  look: () => Promise<T | undefined | false> | T | undefined | false,
  ms = 20_000,
): Promise<T> {
  const deadline = performance.now() + ms;
  for (;;) {
    let failure: unknown;
    try {
      const found = await look();
      if (found !== undefined && found !== false) return found;
    } catch (error) {
      failure = error;
    }
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${look}`, { cause: failure });
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Everybody's. */
export const PASSWORD = "correct horse battery";

/** The body of a sign-up that nobody has used yet. */
export function person(fields: Record<string, unknown> = {}): Json {
  const tag = randomUUID().replaceAll("-", "").slice(0, 20);
  return {
    email: `${tag}@example.org`,
    password: PASSWORD,
    handle: `h_${tag}`,
    displayName: `Person ${tag.slice(0, 4)}`,
    ...fields,
  };
}

const children = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

const CALLERS: Record<string, string> = {
  "/credentials/verify": "session",
  "/repair": "user",
  "/restored": "user",
};

/** One process of the service. */
export class UserProcess {
  readonly url: string;
  readonly admin: string;
  readonly #child: ChildProcess;
  readonly #log: string[];
  readonly exited: Promise<number | NodeJS.Signals>;

  constructor(
    child: ChildProcess,
    log: string[],
    exited: Promise<number | NodeJS.Signals>,
    at: { url: string; admin: string },
  ) {
    this.#child = child;
    this.#log = log;
    this.exited = exited;
    this.url = at.url;
    this.admin = at.admin;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  log(): string {
    return this.#log.join("");
  }

  /** Sends a request as `identity`; a string body goes as it is. */
  async call(
    method: string,
    path: string,
    options: { as?: Identity | string; headers?: Record<string, string>; body?: unknown } = {},
  ): Promise<Answer> {
    const { as, body } = options;
    const identity: Identity | undefined = typeof as === "string" ? asUser(as) : as;
    const res = await fetch(this.url + path, {
      method,
      headers: {
        ...(identity ? { "quartet-identity": signAs(identity, "user") } : {}),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...options.headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await res.text();
    return {
      status: res.status,
      headers: res.headers,
      body: /json/.test(res.headers.get("content-type") ?? "") ? JSON.parse(text) : text,
    };
  }

  /** A call of the service that makes it. */
  internal(method: string, path: string, body?: unknown): Promise<Answer> {
    return this.call(method, `/internal${path}`, {
      as: { kind: "service", name: CALLERS[path] ?? "gateway" },
      ...(body === undefined ? {} : { body }),
    });
  }

  /** Signs a new person up and returns the user. */
  async signUp(fields: Record<string, unknown> = {}): Promise<Json> {
    const answer = await this.call("POST", "/v1/users", { body: person(fields) });
    if (answer.status !== 201) throw new Error(`sign-up: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<number | NodeJS.Signals> {
    this.#child.kill(signal);
    return this.exited;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}

export const asUser = (userId: string): Identity => ({ kind: "user", userId, sessionId: "session-of-test" });
export const operator: Identity = { kind: "operator" };

/** PostgreSQL, NATS and three participants, for the tests of one file. */
export class World {
  postgres!: TestEngine;
  nats!: TestEngine;
  /** As the service's own role. */
  sql!: pg.Pool;
  /** As the administrator. */
  broker!: NatsConnection;
  session!: Participant;
  search!: Participant;
  analytics!: Participant;
  readonly #processes = new Set<UserProcess>();

  async start(options: { nats?: boolean } = {}): Promise<void> {
    this.postgres = await createTestEngine("postgres");
    this.sql = new pg.Pool({ connectionString: this.postgres.urlFor("user"), max: 4, connectionTimeoutMillis: 5000 });
    this.sql.on("error", () => {});
    if (options.nats !== false) {
      this.nats = await createTestEngine("nats");
      const { hostname, port, username, password } = new URL(this.nats.url);
      this.broker = await connect({
        servers: `${hostname}:${port}`,
        user: username,
        pass: decodeURIComponent(password),
        maxReconnectAttempts: -1,
        reconnectTimeWait: 100,
      });
    }
    for (const name of ["session", "search", "analytics"] as const) {
      this[name] = new Participant(name);
      await this[name].start();
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#processes].map((p) => p.kill()));
    await this.broker?.close();
    await this.sql?.end();
    await Promise.all([this.session?.stop(), this.search?.stop(), this.analytics?.stop()]);
    await Promise.all([this.nats?.dispose(), this.postgres?.dispose()]);
  }

  /** Starts a process; with `open` it answers requests once this returns. */
  async user(env: Record<string, string> = {}, open = true): Promise<UserProcess> {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN], {
      env: {
        PATH: process.env.PATH,
        PORT: "0",
        ADMIN_PORT: "0",
        NODE_OPTIONS: "--max-old-space-size=256",
        ...identityOfTests("user"),
        POSTGRES_URL: this.postgres.urlFor("user"),
        NATS_URL: this.nats?.urlFor("user") ?? "nats://user:secret@127.0.0.1:1",
        SESSION_URL: this.session.url,
        SEARCH_URL: this.search.url,
        ANALYTICS_URL: this.analytics.url,
        LOG_LEVEL: "info",
        AUDIT_INTERVAL_MS: "0",
        ...env,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    children.add(child);
    const log: string[] = [];
    const exited = new Promise<number | NodeJS.Signals>((resolve) =>
      child.once("exit", (code, signal) => {
        children.delete(child);
        resolve(code ?? signal!);
      }),
    );
    child.stdout.on("data", (chunk) => log.push(String(chunk)));
    child.stderr.on("data", (chunk) => log.push(String(chunk)));
    const line = await eventually(() => {
      if (child.exitCode !== null) throw new Error(log.join(""));
      return log
        .join("")
        .split("\n")
        .find((l) => l.includes('"msg":"listening"'));
    });
    const { url, admin } = JSON.parse(line) as { url: string; admin: string };
    const started = new UserProcess(child, log, exited, { url, admin });
    this.#processes.add(started);
    void exited.then(() => this.#processes.delete(started));
    if (open) {
      const isReady = async () => (await fetch(`${admin}/readyz`)).status === 200;
      await eventually(isReady).catch((cause) => {
        throw new Error(`it did not become ready: ${started.log()}`, { cause });
      });
    }
    return started;
  }

  /** The last message under a subject, or undefined. */
  async last(stream: string, subject: string): Promise<(Json & { seq: number }) | undefined> {
    const message = await this.#message(stream, subject);
    return message && { ...(message.json() as object), seq: message.seq };
  }

  async #message(stream: string, subject: string): Promise<StoredMsg | undefined> {
    const jsm = await this.broker.jetstreamManager();
    try {
      return await jsm.streams.getMessage(stream, { last_by_subj: subject });
    } catch {
      return undefined;
    }
  }

  /** How many messages a stream holds, by subject. */
  async counts(stream: string, filter: string): Promise<Record<string, number>> {
    const jsm = await this.broker.jetstreamManager();
    const info = await jsm.streams.info(stream, { subjects_filter: filter });
    return info.state.subjects ?? {};
  }

  /** Takes a copy of the whole database; what it returns puts it back, as a dump would in another cluster. No process may run meanwhile. */
  async dump(): Promise<() => Promise<void>> {
    const url = new URL(this.postgres.url);
    url.pathname = new URL(this.postgres.urlFor("user")).pathname;
    return copyDatabase(url.href);
  }

  /** NATS loses every stream. */
  async loseStreams(): Promise<void> {
    const jsm = await this.broker.jetstreamManager();
    for (const stream of ["USERS", "FACTS", "DEAD"]) await jsm.streams.delete(stream);
  }

  /** The rows of a query. */
  async rows(text: string, values: unknown[] = []): Promise<Json[]> {
    return (await this.sql.query(text, values)).rows;
  }
}
