// Writes or reads back the history that analytics alone has: the facts, and who was erased. Over HTTP, in ClickHouse's Native format, gzipped.
// node backup.mjs backup | restore
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { request as http } from "node:http";
import { request as https } from "node:https";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";

const TABLES = ["facts", "erased"];
const FOLDER = "/backup";
const { CLICKHOUSE_URL, KEEP = "7", FILE } = process.env;
const url = new URL(CLICKHOUSE_URL);
const database = decodeURIComponent(url.pathname.slice(1)) || "default";
const authorization = `Basic ${Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString("base64")}`;

/** Sends a query, and `body` after it; resolves to the response once its status is known to be 200. */
function ask(query, body) {
  const search = new URLSearchParams({ database, query, wait_end_of_query: "0" });
  const options = {
    method: "POST",
    headers: { authorization },
    path: `/?${search}`,
    host: url.hostname,
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

async function rows(table) {
  let text = "";
  for await (const part of await ask(`SELECT count() FROM ${table} FINAL`)) text += part;
  return Number(text);
}

const backups = () =>
  readdirSync(FOLDER)
    .filter((name) => /^analytics-\d{8}T\d{6}Z$/.test(name))
    .sort();

async function backup() {
  const name = `analytics-${new Date().toISOString().replace(/\.\d+/, "").replaceAll(/[-:]/g, "")}`;
  const draft = `${FOLDER}/${name}.part`;
  mkdirSync(draft, { recursive: true });
  const manifest = {};
  // The erased last: whoever is erased while the facts are read is then among them.
  for (const table of TABLES) {
    manifest[table] = await rows(table);
    await pipeline(
      await ask(`SELECT * FROM ${table} FINAL FORMAT Native`),
      createGzip({ level: 4 }),
      createWriteStream(`${draft}/${table}.native.gz`),
    );
  }
  writeFileSync(`${draft}/manifest.json`, JSON.stringify(manifest));
  renameSync(draft, `${FOLDER}/${name}`);
  for (const old of backups().slice(0, -Number(KEEP))) rmSync(`${FOLDER}/${old}`, { recursive: true });
  for (const left of readdirSync(FOLDER).filter((n) => n.endsWith(".part")))
    rmSync(`${FOLDER}/${left}`, { recursive: true });
  console.log("wrote", name, JSON.stringify(manifest));
}

async function restore() {
  const name = FILE || backups().at(-1);
  if (!name || !existsSync(`${FOLDER}/${name}/manifest.json`))
    throw new Error(`there is no backup ${name ?? ""} in ${FOLDER}`);
  // Added, never replaced: a fact that is there already meets itself. The erased first, so that the service's sweep anonymises what comes back.
  for (const table of TABLES.toReversed()) {
    const read = createReadStream(`${FOLDER}/${name}/${table}.native.gz`).pipe(createGunzip());
    for await (const _ of await ask(`INSERT INTO ${table} FORMAT Native`, read));
  }
  const found = Object.fromEntries(await Promise.all(TABLES.map(async (table) => [table, await rows(table)])));
  console.log(
    "restored",
    name,
    "of",
    readFileSync(`${FOLDER}/${name}/manifest.json`, "utf8"),
    "there are now",
    JSON.stringify(found),
  );
}

const verbs = { backup, restore };
const verb = verbs[process.argv[2]];
if (!verb) throw new Error("backup or restore?");
await verb();
