/** `… | node k8s/pick.ts KIND`: the objects of one kind out of a stream of manifests. */
import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";

const kind = process.argv[2];
for (const document of parseAllDocuments(readFileSync(0, "utf8"))) {
  if (document.get("kind") === kind) process.stdout.write(`---\n${document.toString()}`);
}
