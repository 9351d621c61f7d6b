import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { ValidateFunction } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";

/** The JSON schemas of every Kubernetes since 1.25, made from its own OpenAPI, as a package of Python's registry has them. */
const PACKAGE = "kubernetes-validate";
const VERSION = "1.37.0";
const SHA256 = "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9";
const INSIDE = "kubernetes_validate/kubernetes-json-schema";
const UNZIP = `
import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
for name in wheel.namelist():
    if name.endswith(".json") and any("/v%s.0-local-strict/" % v in name for v in sys.argv[3:]):
        wheel.extract(name, sys.argv[2])
`;

/** The oldest Kubernetes that the charts are for, the one of today, and one that is newer than most clusters. */
export const KUBERNETES = ["1.29", "1.34", "1.37"] as const;

/** Where downloads are kept between runs. */
export function cacheFolder(): string {
  return process.env.QUARTET_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "quartet");
}

/** Fetches the schemas once. Throws an Error that says what is missing where they cannot be had. */
function schemaFolder(): string {
  const cache = cacheFolder();
  const folder = join(cache, `${PACKAGE}-${VERSION}`);
  if (existsSync(folder)) return join(folder, INSIDE);
  mkdirSync(cache, { recursive: true });
  const draft = mkdtempSync(join(cache, "schemas-"));
  try {
    const pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-deps"];
    execFileSync("python3", [...pip, "--only-binary=:all:", "-d", draft, `${PACKAGE}==${VERSION}`], { stdio: "pipe" });
    const wheel = join(draft, readdirSync(draft).find((name) => name.endsWith(".whl"))!);
    const sum = createHash("sha256").update(readFileSync(wheel)).digest("hex");
    if (sum !== SHA256) throw new Error(`${PACKAGE} ${VERSION} has checksum ${sum}, expected ${SHA256}`);
    execFileSync("python3", ["-c", UNZIP, wheel, join(draft, "out"), ...KUBERNETES], { stdio: "pipe" });
    if (!existsSync(folder)) renameSync(join(draft, "out"), folder);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return join(folder, INSIDE);
}

/** The schemas, or one line saying why they cannot be had here. */
export function findSchemas(): { folder: string; why?: undefined } | { folder?: undefined; why: string } {
  try {
    return { folder: schemaFolder() };
  } catch (error) {
    const { message, stderr } = error as Error & { stderr?: Buffer };
    const detail = (stderr?.toString().trim().split("\n").at(-1) || message).slice(0, 200);
    return { why: `Kubernetes' schemas need python3 with pip and its registry: ${detail}` };
  }
}

type Obj = any;

/** Strict validation of core objects by one version of Kubernetes: unknown fields are errors. Answers one line for each error. */
export function validator(folder: string, version: string): (object: Obj) => string[] {
  const files = join(folder, `v${version}.0-local-strict`);
  const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false, logger: false });
  const read = (file: string) => JSON.parse(readFileSync(join(files, file), "utf8"));
  ajv.addSchema(read("_definitions.json"));
  const known = new Map<string, ValidateFunction | undefined>();
  return (object) => {
    const group = String(object.apiVersion).replace(/[./].*\/|\//, "-");
    const name = `${object.kind}-${group}.json`.toLowerCase();
    if (!known.has(name)) {
      known.set(name, existsSync(join(files, name)) ? ajv.compile(read(name)) : undefined);
    }
    const check = known.get(name);
    const who = `${object.kind}/${object.metadata?.name}`;
    if (!check) return [`${who}: Kubernetes ${version} has no ${object.apiVersion} ${object.kind}`];
    if (check(object)) return [];
    return check.errors!.map((e) => `${who}${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`);
  };
}
