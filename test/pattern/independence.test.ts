import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { kill, revive } from "@quartet/cli/control";
import { identityEnv } from "@quartet/contracts";
import { type ServiceProcess, startService } from "@quartet/service/testing";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Balancer } from "../lib/balancer.ts";
import { eventually, logIn, type Person, signUp } from "../lib/client.ts";
import { command } from "../lib/commands.ts";
import { connectAsAdmin } from "../lib/nats.ts";
import { client, home, runFile } from "../lib/system.ts";

/**
 * The drill: User renames a column and a field of its event, and adds one, while it is used, with the old and the new version side by side and nobody else
 * redeployed. Expand, then contract: the new column stands beside the old one and a trigger keeps them equal until nobody uses the old one; the event
 * (version 2) carries the field under both names for as long as a consumer knows only the old one, who reads what it knows and passes over the rest.
 */
const root = new URL("../..", import.meta.url).pathname;

const EXPAND = `ALTER TABLE users ADD COLUMN full_name text;
CREATE FUNCTION users_names() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    NEW.full_name := coalesce(NEW.full_name, NEW.display_name);
    NEW.display_name := coalesce(NEW.display_name, NEW.full_name);
  ELSIF NEW.full_name IS DISTINCT FROM OLD.full_name THEN NEW.display_name := NEW.full_name;
  ELSE NEW.full_name := NEW.display_name;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER users_names BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION users_names();
UPDATE users SET full_name = display_name;`;
const CONTRACT = `ALTER TABLE users ALTER COLUMN full_name SET NOT NULL;
DROP TRIGGER users_names ON users;
DROP FUNCTION users_names();
ALTER TABLE users DROP COLUMN display_name;`;
const UNDO = `ALTER TABLE users RENAME COLUMN full_name TO display_name;
DELETE FROM schema_migrations WHERE name LIKE '9%';`;

const homes: string[] = [];
const running: ServiceProcess[] = [];

/** The source of the user service, somewhere else, with a later release's changes. */
function release(changes: "none" | "expand" | "contract"): URL {
  const folder = mkdtempSync(join(tmpdir(), "quartet-release-"));
  homes.push(folder);
  cpSync(join(root, "services/user"), folder, { recursive: true, filter: (from) => !from.includes("node_modules") });
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  const source = join(folder, "src");
  if (changes !== "none") {
    for (const file of readdirSync(source, { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".ts"))) {
      const path = join(source, file);
      writeFileSync(path, readFileSync(path, "utf8").replaceAll("display_name", "full_name"));
    }
    const rows = join(source, "store/rows.ts");
    const emitted = /return (emit\.userState\(stateOf\(row\)[^;]*);/;
    const text = readFileSync(rows, "utf8");
    expect(text).toMatch(emitted);
    const v2 = `const out = $1;
  const data = { ...out.event.data, name: row.full_name, pronouns: null };
  return { ...out, event: { ...out.event, type: "quartet.user.state.v2", data } } as unknown as Outgoing;`;
    writeFileSync(rows, text.replace(emitted, v2));
    writeFileSync(join(source, "store/migrations/9001_full_name.sql"), EXPAND);
  }
  if (changes === "contract") writeFileSync(join(source, "store/migrations/9002_display_name.sql"), CONTRACT);
  return pathToFileURL(join(source, "main.ts"));
}

const secrets = () => JSON.parse(readFileSync(join(home as string, "credentials.json"), "utf8"));

async function start(main: URL): Promise<ServiceProcess> {
  const { engines, services } = runFile();
  const { postgres, nats, identity } = secrets();
  const at = (name: string) => `http://127.0.0.1:${services[name].port}`;
  const service = await startService("user", main, {
    POSTGRES_URL: `postgres://user_service:${postgres.user_service}@127.0.0.1:${engines.postgres.port}/quartet`,
    NATS_URL: `nats://user:${nats.user}@127.0.0.1:${engines.nats.port}`,
    ...identityEnv(identity, "user"),
    SESSION_URL: at("session"),
    ANALYTICS_URL: at("analytics"),
    SEARCH_URL: at("search"),
    LOG_LEVEL: "info",
  });
  running.push(service);
  await eventually("the release is ready", () => service.ready(), 60_000);
  return service;
}

async function sql<T extends object>(text: string): Promise<T[]> {
  const { postgres } = secrets();
  const c = new pg.Client({
    host: "127.0.0.1",
    port: runFile().engines.postgres.port,
    database: "quartet",
    user: "postgres",
    password: postgres.postgres,
  });
  await c.connect();
  try {
    const result = await c.query(text);
    return (Array.isArray(result) ? [] : result.rows) as T[];
  } finally {
    await c.end();
  }
}

/** How many users the log holds in each version of the event. */
async function versions(): Promise<Record<string, number>> {
  const nc = await connectAsAdmin();
  try {
    const jsm = await nc.jetstreamManager();
    const { state } = await jsm.streams.info("USERS", { subjects_filter: "users.*" });
    const counts: Record<string, number> = {};
    for (const subject of Object.keys(state.subjects ?? {})) {
      const { type } = (await jsm.streams.getMessage("USERS", { last_by_subj: subject })).json<{ type: string }>();
      counts[type] = (counts[type] ?? 0) + 1;
    }
    return counts;
  } finally {
    await nc.close();
  }
}

/** Uses User in every way, and keeps what it was promised. */
function load(lanes: number) {
  let busy = true;
  let requests = 0;
  const failures: string[] = [];
  const people: { person: Person; name: string }[] = [];
  const lane = async (): Promise<void> => {
    const check = (what: string, { status, body }: { status: number; body: unknown }, wanted: number) => {
      requests++;
      if (status !== wanted) failures.push(`${what}: ${status} ${JSON.stringify(body)}`);
    };
    while (busy) {
      try {
        const person = await signUp(client);
        requests++;
        const { token } = await logIn(client, person);
        requests++;
        const entry = { person, name: `Renamed ${requests}` };
        check("patch", await client.patch(`/v1/users/${person.id}`, { displayName: entry.name }, { token }), 200);
        const read = await client.get(`/v1/users/${person.id}`, { token });
        check("get", read, 200);
        if (read.body.displayName !== entry.name) failures.push(`read ${read.body.displayName} for ${entry.name}`);
        if (people.length % 5 === 4) check("delete", await client.delete(`/v1/users/${person.id}`, { token }), 202);
        else people.push(entry);
        const key = `drill-${person.handle}`;
        const users = [{ key, displayName: "Imported" }];
        check("import", await client.post("/v1/admin/import", { users }, { token: client.operatorToken }), 200);
      } catch (error) {
        failures.push(String(error));
      }
    }
  };
  const all = Promise.all(Array.from({ length: lanes }, lane));
  return {
    failures,
    people,
    requests: () => requests,
    async more(n: number): Promise<void> {
      const until = requests + n;
      await eventually("requests", async () => requests >= until, 120_000);
    },
    async stop(): Promise<void> {
      busy = false;
      await all;
    },
  };
}

describe.skipIf(!home)("User changes its schema and its events without anybody else", () => {
  const balancer = new Balancer();
  beforeAll(async () => {
    const { port } = runFile().services.user;
    const old = await start(release("none"));
    balancer.add(old.url);
    await kill(home as string, "user", { hold: true });
    await eventually("the port", () => balancer.listen(port).then(() => true));
  });
  afterAll(async () => {
    await balancer.close();
    for (const service of running) await service.kill();
    const columns = await sql<{ column_name: string }>(
      "SELECT column_name FROM information_schema.columns WHERE table_name = 'users'",
    );
    const names = columns.map((c) => c.column_name);
    if (names.includes("full_name") && names.includes("display_name")) await sql(CONTRACT);
    if (names.includes("full_name")) await sql(UNDO);
    revive(home as string, "user");
    for (const folder of homes) rmSync(folder, { recursive: true, force: true });
    await eventually(
      "the system's own user service",
      async () => (await client.get("/v1/admin/status", { token: client.operatorToken })).body.services.user.up,
      60_000,
    );
  });

  it("old and new side by side under load: no request fails, and all stores agree in the end", async () => {
    const [old] = running as [ServiceProcess];
    const using = load(3);
    try {
      await using.more(30);
      // Expand: the schema first, by the new release itself, while the old one goes on.
      const expanded = await start(release("expand"));
      await using.more(30);
      balancer.add(expanded.url);
      await using.more(80);
      expect(balancer.served(expanded.url)).toBeGreaterThan(20);
      expect(using.failures).toEqual([]);
      const mixed = await eventually("both versions in the log", async () => {
        const found = await versions();
        return (found["quartet.user.state.v1"] ?? 0) > 0 && (found["quartet.user.state.v2"] ?? 0) > 0 && found;
      });
      expect(Object.keys(mixed).length).toBeGreaterThanOrEqual(2);
      // The old one leaves; what it had in hand it finishes, and the relay passes on.
      await balancer.remove(old.url);
      await old.stop();
      await using.more(40);
      // Contract: the release after it drops the old column, and the one that still knew of it leaves.
      const contracted = await start(release("contract"));
      balancer.add(contracted.url);
      await using.more(40);
      await balancer.remove(expanded.url);
      await expanded.stop();
      await using.more(40);
    } finally {
      await using.stop();
    }
    expect(using.failures).toEqual([]);

    const last = using.people.at(-1)?.person as Person;
    const token = (await client.patch(`/v1/users/${last.id}`, { bio: "the last" }, { token: client.operatorToken }))
      .token;
    await client.get("/v1/search?q=", { after: token as string });
    for (const { person, name } of using.people.slice(-60)) {
      const found = await client.get(`/v1/search?q=${person.handle}`);
      expect(found.body.hits[0]).toMatchObject({ id: person.id, displayName: name });
    }
    const audit = await command("audit").done;
    expect(audit.code, audit.output).toBe(0);
    const { body } = await client.get("/v1/admin/dead", { token: client.operatorToken });
    expect(body.deadLetters.filter((d: { reason: string }) => /state/.test(d.reason))).toEqual([]);
  }, 400_000);
});
