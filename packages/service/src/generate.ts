import { readFileSync, writeFileSync } from "node:fs";
import { metricsPage } from "./metrics-page.ts";

/** Writes docs/metrics.md from the catalogue; with `--check` only tells whether it is as it would be written (exit status 1 if not). */
const file = new URL("../../../docs/metrics.md", import.meta.url);
const page = await metricsPage();
if (!process.argv.includes("--check")) writeFileSync(file, page);
else if (readFileSync(file, "utf8") !== page) {
  process.stderr.write("docs/metrics.md is not what the catalogue says: npm run generate\n");
  process.exitCode = 1;
}
