// Writes or reads back what analytics alone has: the facts, and who was erased. Over HTTP, as tab-separated text, gzipped, a row a line; nothing of a backup's size is
// held in memory or in a scratch folder. Beside the tables is a manifest with the checksum and the rows of each.
// node backup.mjs backup | restore
import { createHash } from "node:crypto";
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { request as http } from "node:http";
import { request as https } from "node:https";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";

const TABLES = ["facts", "erased", "receipts"];
const DAY_MS = 86_400_000;
const {
  CLICKHOUSE_URL,
  KEEP = "7",
  FILE,
  BACKUP_FOLDER: FOLDER = "/backup",
  BACKUP_RETENTION_DAYS = "14",
} = process.env;
const url = new URL(CLICKHOUSE_URL);
const database = decodeURIComponent(url.pathname.slice(1)) || "default";
const authorization = `Basic ${Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString("base64")}`;

/** The one line that says why nothing was done. */
class Refused extends Error {}

/** Sends a query, and `body` after it; resolves to the response once its status is known to be 200. */
function ask(query, body) {
  const search = new URLSearchParams({ database, query, wait_end_of_query: "0" });
  const options = {
    method: "POST",
    headers: { authorization },
    path: `/?${search}`,
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port || undefined,
  };
  return new Promise((resolve, reject) => {
    const request = (url.protocol === "https:" ? https : http)(options, async (response) => {
      if (response.statusCode === 200) return resolve(response);
      let text = "";
      for await (const part of response) text += part;
      reject(new Error(`ClickHouse ${response.statusCode}: ${text.slice(0, 500)}`));
    });
    request.on("error", reject);
    if (body) pipeline(body, request).catch(reject);
    else request.end();
  });
}

async function text(query) {
  let found = "";
  for await (const part of await ask(query)) found += part;
  return found.trim();
}
const rowsIn = async (table, final = " FINAL") => Number(await text(`SELECT count() FROM ${table}${final}`));
const isThere = async (table) => (await text(`EXISTS TABLE ${table}`)) === "1";

/** Passes everything on and looks at it. */
function tap(look) {
  return new Transform({
    transform(chunk, _, done) {
      look(chunk);
      done(null, chunk);
    },
  });
}
function lines() {
  let n = 0;
  const counter = tap((chunk) => {
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) n++;
  });
  return Object.assign(counter, { count: () => n });
}

const NAME = /^analytics-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;
const backups = () =>
  readdirSync(FOLDER)
    .filter((name) => NAME.test(name))
    .sort();
const manifestOf = (name) => JSON.parse(readFileSync(`${FOLDER}/${name}/manifest.json`, "utf8"));

/** Deletes what has to go; says what it cannot. Returns whether all of it is gone. */
function deleteOld() {
  let whole = true;
  for (const name of backups()) {
    const [, y, mo, d, h, mi, s] = NAME.exec(name).map(Number);
    let due = Date.UTC(y, mo - 1, d, h, mi, s) + Number(BACKUP_RETENTION_DAYS) * DAY_MS;
    try {
      // The term that it was made with holds, should the retention be longer now.
      due = Math.min(due, Date.parse(manifestOf(name).deleteBy) || due);
    } catch {}
    if (due > Date.now()) continue;
    whole = remove(name) && whole;
  }
  for (const name of readdirSync(FOLDER).filter((n) => n.endsWith(".part")))
    if (statSync(`${FOLDER}/${name}`).mtimeMs < Date.now() - 7 * 3_600_000) whole = remove(name) && whole;
  return whole;
}

function remove(name) {
  try {
    rmSync(`${FOLDER}/${name}`, { recursive: true });
    console.log(`deleted ${name}`);
    return true;
  } catch (error) {
    console.error(
      `cannot delete ${name}, which is due: whoever was told by when it is gone was told wrong (${error.message})`,
    );
    return false;
  }
}

async function backup() {
  // What has to go goes first, so that it goes also when no new backup can be made.
  let whole = deleteOld();
  const now = Date.now();
  const utc = (at) => new Date(at).toISOString().replace(/\.\d+/, "");
  const name = `analytics-${utc(now).replaceAll(/[-:]/g, "")}`;
  const draft = `${FOLDER}/${name}.part`;
  mkdirSync(draft, { recursive: true });
  const tables = {};
  // The erased last: whoever is erased while the facts are read is then among them.
  for (const table of TABLES) {
    const least = await rowsIn(table);
    const hash = createHash("sha256");
    const counter = lines();
    await pipeline(
      await ask(`SELECT * FROM ${table} FINAL FORMAT TabSeparatedWithNames`),
      counter,
      createGzip({ level: 4 }),
      tap((chunk) => hash.update(chunk)),
      createWriteStream(`${draft}/${table}.tsv.gz`, { flush: true }),
    );
    const rows = counter.count() - 1;
    // The engine ends an answer that it cannot finish as if it were whole.
    if (rows < least) throw new Error(`${table} has ${least} rows, and ${rows} came`);
    tables[table] = { rows, bytes: statSync(`${draft}/${table}.tsv.gz`).size, sha256: hash.digest("hex") };
  }
  const deleteBy = utc(now + Number(BACKUP_RETENTION_DAYS) * DAY_MS);
  writeFileSync(`${draft}/manifest.json`, JSON.stringify({ takenAt: utc(now), deleteBy, tables }), { flush: true });
  renameSync(draft, `${FOLDER}/${name}`);
  for (const old of backups().slice(0, -Number(KEEP))) whole = remove(old) && whole;
  console.log("wrote", name, JSON.stringify(tables));
  if (!whole) process.exitCode = 1;
}

/** Whether the backup is what was written; before anything of it is used. */
async function verify(name) {
  if (!name || !existsSync(`${FOLDER}/${name}`)) throw new Refused(`there is no backup ${name ?? ""} in ${FOLDER}`);
  let tables;
  try {
    ({ tables } = manifestOf(name));
    if (!TABLES.some((table) => tables[table])) throw new Error("it names no table");
  } catch (error) {
    throw new Refused(
      `${name} has no manifest that can be read (${error.message}), so that nobody can say whether it is whole`,
    );
  }
  for (const [table, { rows, bytes, sha256 }] of Object.entries(tables)) {
    const path = `${FOLDER}/${name}/${table}.tsv.gz`;
    const found = existsSync(path) ? statSync(path).size : 0;
    if (found !== bytes)
      throw new Refused(`${table} in ${name} has ${found} bytes of ${bytes}: it is cut off or altered`);
    const hash = createHash("sha256");
    const counter = lines();
    const checked = tap((chunk) => hash.update(chunk));
    await pipeline(createReadStream(path), checked, createGunzip(), counter, async (all) => {
      for await (const _ of all);
    }).catch((error) => {
      throw new Refused(`${table} in ${name} cannot be read to its end (${error.message})`);
    });
    if (hash.digest("hex") !== sha256)
      throw new Refused(`${table} in ${name} is not what was written: its checksum is another`);
    if (counter.count() - 1 !== rows)
      throw new Refused(`${table} in ${name} has ${counter.count() - 1} rows of ${rows}`);
  }
  return tables;
}

async function restore() {
  const name = FILE || backups().at(-1);
  const tables = await verify(name);
  for (const table of TABLES)
    if (!(await isThere(table)))
      throw new Refused(`there is no table ${table} yet: start the service once, so that it makes its tables`);
  // Added, never replaced: a row that is there already meets itself. First into a place beside, whose rows are counted; the erased come first, so that the
  // service's sweep anonymises what comes back.
  for (const table of TABLES.toReversed().filter((table) => tables[table])) {
    const beside = `${table}_restored`;
    await text(`DROP TABLE IF EXISTS ${beside} SYNC`);
    try {
      await text(`CREATE TABLE ${beside} AS ${table}`);
      const path = `${FOLDER}/${name}/${table}.tsv.gz`;
      const insert = `INSERT INTO ${beside} FORMAT TabSeparatedWithNames`;
      for await (const _ of await ask(insert, createReadStream(path).pipe(createGunzip())));
      const rows = await rowsIn(beside);
      if (rows !== tables[table].rows) throw new Refused(`${rows} rows of ${table} arrived of ${tables[table].rows}`);
      await text(`INSERT INTO ${table} SELECT * FROM ${beside}`);
    } finally {
      await text(`DROP TABLE IF EXISTS ${beside} SYNC`).catch(() => {});
    }
  }
  const found = Object.fromEntries(await Promise.all(TABLES.map(async (table) => [table, await rowsIn(table)])));
  console.log("restored", name, "of", JSON.stringify(tables), "there are now", JSON.stringify(found));
}

const verbs = { backup, restore };
const verb = verbs[process.argv[2]];
if (!verb) throw new Error("backup or restore?");
try {
  await verb();
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  console.error(`refused: ${error.message}. Nothing was changed`);
  process.exitCode = 1;
}
