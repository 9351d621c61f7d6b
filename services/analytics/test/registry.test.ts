import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
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
import { ERASED_PAGE, type ErasedPerson } from "@quartet/contracts";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ClickHouse, createClickHouse } from "../src/store/client.ts";
import { recordErased } from "../src/store/erasure.ts";
import { countFacts, type Fact, insertFacts } from "../src/store/facts.ts";
import { migrate } from "../src/store/migrations.ts";
import { erasedPage, recordReceipts, registryState } from "../src/store/registry.ts";

let engine: TestEngine;
let clickhouse: ClickHouse;
let folder: string;
beforeAll(async () => {
  engine = await createTestEngine("clickhouse");
  folder = mkdtempSync(join(tmpdir(), "quartet-backup-"));
  clickhouse = createClickHouse({
    url: engine.urlFor("analytics"),
    timeoutMs: 10_000,
    lanes: { small: 4, heavy: 1 },
    maxMemoryBytes: 256 * 1024 * 1024,
  });
  await migrate(clickhouse);
});
afterAll(async () => {
  await clickhouse?.close();
  await engine?.dispose();
  if (folder) rmSync(folder, { recursive: true });
});

const hashOf = (id: string) => createHash("sha256").update(id).digest("hex");
const person = (n: number, rest: Partial<NonNullable<ErasedPerson["receipt"]>> = {}): ErasedPerson => ({
  hash: hashOf(`person ${n}`),
  receipt: {
    id: String(n).padStart(43, "x"),
    requestedAt: "2026-11-01T00:00:00.123Z",
    sessionAt: null,
    searchAt: null,
    analyticsAt: null,
    completedAt: null,
    goneBy: null,
    ...rest,
  },
});

test("remembers who was erased and under which receipt; what is told later replaces it", async () => {
  const before = await registryState(clickhouse);
  const [open, alone] = [person(1), { hash: hashOf("somebody"), receipt: null }];
  await recordReceipts(clickhouse, [open, alone]);
  const after = await registryState(clickhouse);
  expect([after.id, before.latest]).toEqual([before.id, 0]);
  expect(after.latest).toBeGreaterThan(0);
  expect(await erasedPage(clickhouse, {})).toEqual([open, alone].sort((a, b) => (a.hash < b.hash ? -1 : 1)));
  const times = {
    sessionAt: "2026-11-01T00:00:01.001Z",
    searchAt: "2026-11-01T00:00:02.020Z",
    analyticsAt: "2026-11-01T00:00:03.300Z",
  };
  const done = person(1, { ...times, completedAt: "2026-11-01T00:00:04.000Z", goneBy: "2999-11-16T10:17:00.000Z" });
  await recordReceipts(clickhouse, [done]);
  expect(await erasedPage(clickhouse, {})).toContainEqual(done);
  expect(await erasedPage(clickhouse, { since: new Date(Date.now() + 60_000).toISOString() })).toEqual([]);
});

test("is read page by page; a receipt whose term is over goes, the hash stays", async () => {
  const past = person(2, { goneBy: "2026-01-01T00:00:00.000Z" });
  await recordReceipts(clickhouse, [past]);
  await recordErased(
    clickhouse,
    Array.from({ length: 2 * ERASED_PAGE }, (_, n) => `other ${n}`),
  );
  await clickhouse.execute("OPTIMIZE TABLE receipts FINAL");
  const all: ErasedPerson[] = [];
  for (
    let page = await erasedPage(clickhouse, {});
    ;
    page = await erasedPage(clickhouse, { after: all.at(-1)?.hash })
  ) {
    all.push(...page);
    if (page.length < ERASED_PAGE) break;
  }
  expect(new Set(all.map(({ hash }) => hash)).size).toBe(2 * ERASED_PAGE + 3);
  expect(all).toContainEqual({ ...past, receipt: null });
});

const run = (verb: "backup" | "restore", env: Record<string, string> = {}) =>
  new Promise<{ code: number; out: string; err: string }>((done) => {
    const script = fileURLToPath(new URL("../../../charts/analytics/files/backup.mjs", import.meta.url));
    const given = { ...process.env, CLICKHOUSE_URL: engine.urlFor("analytics"), BACKUP_FOLDER: folder, ...env };
    execFile(process.execPath, [script, verb], { env: given }, (error, out, err) =>
      done({ code: error ? Number(error.code) : 0, out, err }),
    );
  });
const newest = () =>
  join(
    folder,
    readdirSync(folder)
      .filter((n) => /Z$/.test(n))
      .sort()
      .at(-1) as string,
  );
const fact = (n: number): Fact => ({
  id: `t:${n}`,
  kind: "track",
  name: "a\tb\nc",
  userId: null,
  occurredAt: 1e12 + n,
  acceptedAt: 1_700_000_000_000_000_000n + BigInt(n),
  sequence: n,
  properties: { text: 'it\'s\t"this"\n\\N', n: 0.1 },
});
const facts = () => countFacts(clickhouse.questionsOf({ client: "test" }));
const digest = () => clickhouse.read("SELECT count() AS n, sum(cityHash64(*)) AS sum FROM facts FINAL");

test("a backup gives back every fact, once, and the registry", async () => {
  await insertFacts(
    clickhouse,
    Array.from({ length: 5000 }, (_, n) => fact(n + 1)),
  );
  const [before, known] = [await digest(), await erasedPage(clickhouse, {})];
  expect((await run("backup")).out).toMatch(/^wrote analytics-.*"facts":\{"rows":5000,/m);
  for (const table of ["facts", "erased", "receipts"]) await clickhouse.execute(`TRUNCATE TABLE ${table}`);
  for (let i = 0; i < 2; i++) {
    expect(await run("restore")).toMatchObject({ code: 0, out: expect.stringMatching(/^restored/) });
    expect(await digest()).toEqual(before);
    expect(await erasedPage(clickhouse, {})).toEqual(known);
  }
  expect(
    await clickhouse.read(
      "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE '%restored'",
    ),
  ).toEqual([]);
});

test.each<[string, () => void, RegExp]>([
  ["cut off", () => truncateSync(join(newest(), "facts.tsv.gz"), 500), /bytes of \d+: it is cut off or altered/],
  [
    "altered",
    () => {
      const path = join(newest(), "facts.tsv.gz");
      const bytes = readFileSync(path);
      bytes[bytes.length - 1]! ^= 1;
      writeFileSync(path, bytes);
    },
    /its checksum is another|cannot be read/,
  ],
  ["with half a manifest", () => truncateSync(join(newest(), "manifest.json"), 40), /no manifest that can be read/],
  [
    "with a manifest that says another number of rows",
    () => {
      const path = join(newest(), "manifest.json");
      writeFileSync(path, readFileSync(path, "utf8").replace('"rows":5000', '"rows":5001'));
    },
    /5000 rows of 5001/,
  ],
])("a backup %s is refused in one line before anything is read back", async (_, spoil, why) => {
  rmSync(newest(), { recursive: true });
  await run("backup");
  spoil();
  await clickhouse.execute("TRUNCATE TABLE facts");
  const { code, err } = await run("restore");
  expect([code, err.trim().split("\n").length, err]).toEqual([1, 1, expect.stringMatching(why)]);
  expect(await facts()).toBe(0);
  await insertFacts(
    clickhouse,
    Array.from({ length: 5000 }, (_, n) => fact(n + 1)),
  );
});

test("what is too old is deleted, also when no backup can be made", async () => {
  const old = join(folder, "analytics-20200101T000000Z");
  mkdirSync(old);
  expect((await run("backup", { CLICKHOUSE_URL: "http://x:y@127.0.0.1:1/analytics" })).code).not.toBe(0);
  expect(existsSync(old)).toBe(false);
});
