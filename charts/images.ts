/**
 * The images of a release by digest. `node charts/images.ts host/owner` writes to stdout a values file for the umbrella: each image that the charts can run,
 * ours below host/owner at the charts' version, all by the digest that they have now. `--write` also puts them into each chart's own values.yaml.
 * How a digest is found: DIGEST_OF, a shell command that is given the name. Ends with status 1 where one has none.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Document, isMap, parse, parseDocument, visit } from "yaml";

const charts = import.meta.dirname;
const NAMES = ["user", "session", "analytics", "search", "gateway", "nats", "observability"];
const DIGEST_OF = process.env.DIGEST_OF || "docker buildx imagetools inspect --format '{{.Manifest.Digest}}'";
const [registry] = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
if (!registry) throw new Error("node charts/images.ts host/owner [--write]");

const known = new Map<string, string>();
function digestOf(image: string): string {
  const found =
    known.get(image) ?? execFileSync("sh", ["-c", `${DIGEST_OF} "$1"`, "sh", image], { encoding: "utf8" }).trim();
  if (!/^sha256:[0-9a-f]{64}$/.test(found)) throw new Error(`${image} has no digest: ${found}`);
  known.set(image, found);
  return found;
}

const values = new Document({});
values.commentBefore = " Images of this release by digest, written by charts/images.ts: helm upgrade --values FILE";
for (const name of NAMES) {
  const file = join(charts, name, "values.yaml");
  const { version } = parse(readFileSync(join(charts, name, "Chart.yaml"), "utf8"));
  const document = parseDocument(readFileSync(file, "utf8"));
  visit(document, {
    Map(_key, node, path) {
      if (!isMap(node) || !node.has("repository") || !node.has("digest")) return;
      const at = path.flatMap((step) => ("key" in step ? [String(step.key)] : []));
      const own = String(node.get("repository"));
      const repository = own.startsWith("quartet/") ? `${registry}/${own}` : own;
      const digest = digestOf(`${repository}:${node.get("tag") || version}`);
      values.setIn([name, ...at, "digest"], digest);
      node.set("digest", digest);
      if (repository === own) return;
      values.setIn([name, ...at, "repository"], repository);
      node.set("repository", repository);
    },
  });
  if (process.argv.includes("--write")) writeFileSync(file, document.toString({ lineWidth: 0 }));
}
process.stdout.write(values.toString());
