import { execFile, execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { uuidv7 } from "@quartet/contracts";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { outboxTables } from "../src/events/relay.ts";
import { migrate, ownMigrations } from "../src/store/migrate.ts";
import { eventually } from "./harness.ts";

/** PostgreSQL's own tools are not among the local engines; the images of the charts have them, and so may this machine. */
const hasTools = (() => {
  try {
    return ["pg_dump", "pg_restore", "psql"].every((tool) => execFileSync(tool, ["--version"]).includes(" 18"));
  } catch {
    return false;
  }
})();
const scripts = fileURLToPath(new URL("../../../charts/user/files/", import.meta.url));
const DAY = 86_400_000;

describe.skipIf(!hasTools)("backup and restore of the users", () => {
  let postgres: TestEngine;
  let sql: pg.Client;
  let folder: string;
  beforeAll(async () => {
    postgres = await createTestEngine("postgres");
    await migrate(postgres.urlFor("user"), [...ownMigrations(), outboxTables]);
  });
  afterAll(() => postgres?.dispose());
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "quartet-backup-"));
    return () => rmSync(folder, { recursive: true });
  });

  const env = (more: Record<string, string> = {}) => ({
    ...process.env,
    POSTGRES_URL: postgres.urlFor("user"),
    BACKUP_FOLDER: folder,
    KEEP: "7",
    BACKUP_RETENTION_DAYS: "14",
    ...more,
  });
  const run = (script: "backup" | "restore", more: Record<string, string> = {}) =>
    new Promise<{ code: number; out: string; err: string }>((done) =>
      execFile("bash", [join(scripts, `${script}.sh`)], { env: env(more) }, (error, out, err) =>
        done({ code: error ? Number(error.code) : 0, out, err }),
      ),
    );
  /** As the service does, and gone again: a restore wants to be alone. */
  const query = async (text: string, values: unknown[] = []): Promise<pg.QueryResult["rows"]> => {
    sql = new pg.Client({ connectionString: postgres.urlFor("user") });
    await sql.connect();
    try {
      return (await sql.query(text, values)).rows;
    } finally {
      await sql.end();
    }
  };
  const add = async (bio = ""): Promise<string> => {
    const id = uuidv7();
    const text = `INSERT INTO users (id, handle, display_name, bio, tags, created_at, updated_at) VALUES ($1, $2, 'X', $3, '{}', now(), now())`;
    await query(text, [id, id, bio]);
    return id;
  };
  const erase = async (id: string): Promise<string> => {
    const receipt = randomBytes(32).toString("base64url");
    await query("DELETE FROM users WHERE id = $1", [id]);
    await query(
      `INSERT INTO erasures (id, user_id, requested_at, completed_at, gone_by, next_attempt_at) VALUES ($1, $2, now(), now(), now() + interval '15 days', now())`,
      [receipt, id],
    );
    return receipt;
  };
  const everything = () =>
    query("SELECT md5(string_agg(u::text, '|' ORDER BY id)) AS users, (SELECT epoch FROM restore_epoch) FROM users u");
  const newest = () =>
    join(
      folder,
      readdirSync(folder)
        .filter((name) => name.endsWith(".dump"))
        .sort()
        .at(-1)!,
    );
  const hashOf = (id: string) => createHash("sha256").update(id).digest();

  test("gives back what it took, and hands over who was erased since", async () => {
    const [kept, erased] = [await add(`it's \\ "kept"\n\t\\.`), await add()];
    const { out } = await run("backup");
    expect(out).toMatch(/^wrote quartet-\d{8}T\d{6}Z\.dump, \d+ bytes, \{.*"users":\d+.*\}\n$/);
    const [before] = await query("SELECT to_jsonb(u) AS row FROM users u WHERE id = $1", [kept]);
    const receipt = await erase(erased);
    await query("UPDATE users SET bio = 'after' WHERE id = $1", [kept]);
    const late = await add();
    const { code, out: said } = await run("restore");
    expect([code, said]).toEqual([
      0,
      expect.stringMatching(/^restored quartet-.* restore epoch 1, 1 erased people known\n$/),
    ]);
    expect(await query("SELECT to_jsonb(u) AS row FROM users u WHERE id = $1", [kept])).toEqual([before]);
    expect(await query("SELECT FROM users WHERE id = $1", [late])).toEqual([]);
    expect(await query("SELECT user_hash, erasure_id FROM erased_people")).toEqual([
      { user_hash: hashOf(erased), erasure_id: receipt },
    ]);
    expect(await query("SELECT phase, learned_at FROM reemissions WHERE phase <> 'done'")).toEqual([
      { phase: "erasures", learned_at: null },
    ]);
    const list = readFileSync(join(folder, "erased.csv"), "utf8");
    expect(list).toContain(receipt);
    expect(list).not.toContain(erased);

    // It may hold people who were erased since: no backup of it before they are gone.
    expect(await run("backup")).toMatchObject({ code: 1, err: expect.stringMatching(/^no backup: .*erased since/) });
    await query("UPDATE reemissions SET phase = 'done'");
    await query("DELETE FROM users WHERE id = $1", [erased]);
    // Without the list of that time: what the database has learnt is on the new one.
    rmSync(join(folder, "erased.csv"));
    expect((await run("backup")).code).toBe(0);
    expect(readFileSync(join(folder, "erased.csv"), "utf8")).toContain(receipt);
  });

  test.each<[string, () => void, RegExp]>([
    ["cut off", () => truncateSync(newest(), 2000), /bytes of \d+: it is cut off or altered/],
    [
      "altered",
      () => {
        const bytes = readFileSync(newest());
        bytes[bytes.length - 20]! ^= 1;
        writeFileSync(newest(), bytes);
      },
      /its checksum is another/,
    ],
    ["without its manifest", () => rmSync(newest().replace(/dump$/, "manifest.json")), /no manifest beside it/],
    [
      "with a manifest that says another number of rows",
      () => {
        const manifest = newest().replace(/dump$/, "manifest.json");
        writeFileSync(manifest, readFileSync(manifest, "utf8").replace(/"users":\d+/, '"users":123456'));
      },
      /and was to have/,
    ],
    [
      "with half a manifest",
      () => truncateSync(newest().replace(/dump$/, "manifest.json"), 60),
      /manifest\.json is cut off or altered/,
    ],
    [
      "beside an altered list of the erased",
      () => writeFileSync(join(folder, "erased.csv"), `sha256 ${"0".repeat(64)}\nx`),
      /erased\.csv was altered/,
    ],
    ["that is not there", () => rmSync(newest()), /there is no dump/],
  ])("a dump %s is refused in one line, and the old data is untouched", async (_, spoil, why) => {
    await add("in the dump");
    expect((await run("backup")).code).toBe(0);
    await add("since");
    const before = await everything();
    spoil();
    const { code, err } = await run("restore");
    expect([code, err.trim().split("\n").length]).toEqual([1, 1]);
    expect(err).toMatch(/^refused: .*Nothing was changed$/m);
    expect(err).toMatch(why);
    expect(await everything()).toEqual(before);
  });

  test("a dump without a manifest is restored if somebody wants it", async () => {
    const id = await add();
    await run("backup");
    rmSync(newest().replace(/dump$/, "manifest.json"));
    await query("DELETE FROM users WHERE id = $1", [id]);
    expect((await run("restore", { UNVERIFIED: "yes" })).code).toBe(0);
    expect(await query("SELECT FROM users WHERE id = $1", [id])).toHaveLength(1);
    await query("UPDATE reemissions SET phase = 'done'");
  });

  test("killed in the middle, the old data is as it was", async () => {
    await query(`INSERT INTO users (id, handle, display_name, bio, tags, created_at, updated_at)
      SELECT gen_random_uuid(), 'many_' || n, 'X', repeat(md5(n::text), 30), '{}', now(), now() FROM generate_series(1, 15000) n`);
    await run("backup");
    await query("DELETE FROM users WHERE handle LIKE 'many_1%'");
    const before = await everything();
    const child = spawn("bash", [join(scripts, "restore.sh")], { env: env(), detached: true, stdio: "ignore" });
    const admin = new pg.Client({ connectionString: postgres.url });
    await admin.connect();
    // It loads the users: what was there has been dropped, for itself.
    await eventually(async () => {
      const text = "SELECT FROM pg_stat_progress_copy p JOIN pg_stat_activity USING (pid) WHERE tuples_processed > 100";
      return (await admin.query(text)).rowCount === 1;
    });
    process.kill(-child.pid!, "SIGKILL");
    await eventually(async () => {
      const text = "SELECT FROM pg_stat_activity WHERE application_name = 'psql'";
      return (await admin.query(text)).rowCount === 0;
    });
    await admin.end();
    expect(await everything()).toEqual(before);
    expect((await run("restore")).code).toBe(0);
    expect(await query("SELECT FROM users WHERE handle LIKE 'many_%'")).toHaveLength(15000);
    await query("UPDATE reemissions SET phase = 'done'; DELETE FROM users WHERE handle LIKE 'many_%'");
  });

  const named = (at: number) =>
    `quartet-${new Date(at).toISOString().replace(/\.\d+/, "").replaceAll(/[-:]/g, "")}.dump`;

  test("what is too old is deleted, also when no backup can be made; what cannot be deleted is told", async () => {
    const [old, promised, young] = [
      named(Date.now() - 14 * DAY - 1000),
      named(Date.now() - 9 * DAY),
      named(Date.now() - 13 * DAY),
    ];
    for (const name of [old, promised, young]) writeFileSync(join(folder, name), "x");
    // It was made when backups were kept for eight days.
    const deleteBy = new Date(Date.now() - DAY).toISOString().replace(/\.\d+/, "");
    writeFileSync(
      join(folder, promised.replace(/dump$/, "manifest.json")),
      `{"dump":"${promised}","deleteBy":"${deleteBy}","rows":{}}`,
    );
    writeFileSync(join(folder, "quartet-by-hand.dump"), "x");
    const away = { POSTGRES_URL: "postgres://nobody:x@127.0.0.1:1/quartet" };
    expect((await run("backup", away)).code).not.toBe(0);
    expect(readdirSync(folder).sort()).toEqual([young, "quartet-by-hand.dump"].sort());

    mkdirSync(join(folder, old));
    const { code, err } = await run("backup");
    expect([code, err]).toEqual([1, expect.stringContaining(`cannot delete ${old}`)]);
    // The new one was written all the same.
    expect(existsSync(newest())).toBe(true);
    expect(readdirSync(folder).filter((name) => name.endsWith(".manifest.json"))).toHaveLength(1);
  });

  test("keeps the newest", async () => {
    for (let n = 1; n <= 4; n++) writeFileSync(join(folder, named(Date.now() - n * 60_000)), "x");
    await run("backup", { KEEP: "2" });
    expect(readdirSync(folder).filter((name) => name.endsWith(".dump"))).toHaveLength(2);
    expect((await run("restore", { FILE: "quartet-19990101T000000Z.dump" })).err).toMatch(/^refused: there is no/);
  });
});
