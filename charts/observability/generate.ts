/** Writes the dashboards as JSON to files/dashboards; with `--check` only tells whether they are as they would be written (exit status 1 if not). */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dashboards } from "./dashboards/index.ts";

const folder = join(import.meta.dirname, "files/dashboards");
for (const [name, builder] of Object.entries(dashboards)) {
  const file = join(folder, `${name}.json`);
  const wanted = `${JSON.stringify(builder.build(), null, 2)}\n`;
  if (existsSync(file) && readFileSync(file, "utf8") === wanted) continue;
  if (!process.argv.includes("--check")) writeFileSync(file, wanted);
  else {
    process.stderr.write(
      `charts/observability/files/dashboards/${name}.json is not what its source says: npm run generate\n`,
    );
    process.exitCode = 1;
  }
}
