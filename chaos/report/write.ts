import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { DECLARED, ENDPOINTS, STORES } from "../availability.ts";
import type { Matrix } from "../check/isolation.ts";
import type { History } from "../history.ts";
import type { RunResult } from "../run.ts";
import { toHtml } from "./html.ts";
import { type Timeline, timelineOf } from "./timeline.ts";

/** Writes report.html and report.json; returns the path of the page. */
export function writeReport(folder: string, result: RunResult, history: History): string {
  const timelines = new Map<string, Timeline>();
  for (const experiment of result.experiments) {
    const timeline = timelineOf(experiment, history.ops, result.samples);
    if (timeline) timelines.set(experiment.name, timeline);
  }
  const { samples: _, experiments, ...rest } = result;
  const json = { ...rest, experiments: experiments.map((e) => ({ ...e, timeline: timelines.get(e.name) })) };
  writeFileSync(join(folder, "report.json"), `${JSON.stringify(json)}\n`);
  const page = join(folder, "report.html");
  writeFileSync(page, toHtml(result, timelines));
  return resolve(page);
}

/** Writes docs/availability.md from what was measured. */
export function writeAvailability(result: RunResult): void {
  writeFileSync(join(import.meta.dirname, "../../docs/availability.md"), availabilityPage(result.matrix, result));
}

function availabilityPage(matrix: Matrix, run: Pick<RunResult, "startedAt" | "seed" | "suite">): string {
  const rows = ENDPOINTS.map((endpoint) => {
    const cells = STORES.map((store) => {
      const measured = matrix[endpoint]?.[store];
      const declared = DECLARED[endpoint][store];
      if (measured === undefined) return `${declared} (not measured)`;
      return measured === declared ? measured : `**${measured}** (declared ${declared})`;
    });
    return `| \`${endpoint}\` | ${cells.join(" | ")} |`;
  });
  return `# Availability: what answers without which store

Measured by \`npm run chaos -- --write\` (${run.suite}, seed ${run.seed}, ${run.startedAt.slice(0, 10)}) and compared with what
[chaos/availability.ts](../chaos/availability.ts) declares: a difference fails the run. A column is what each endpoint did while that one store was killed,
frozen or cut off, from 1.2 s after the fault (until then a circuit breaker may still be finding out). "Not measured": that run asked too seldom there, or its machine
was too busy to tell.

| endpoint | ${STORES.join(" | ")} |
|---|${STORES.map(() => "---|").join("")}
${rows.join("\n")}

- **full**: answered as ever. **degraded**: answered, and says what is missing (\`missing\` of a composed read, \`up: false\` of a status).
  **503**: refused within 2 s, with \`Retry-After\`.
- While PostgreSQL or NATS is away, the derived answers (search, analytics, the profile in a session) stay full and stand still; their \`Quartet-As-Of\` says since
  when. What was accepted meanwhile arrives afterwards.
- "own token": the request carries a session's token, which Session has to look up in Redis at each request: a revocation is immediate, and Redis is needed.
`;
}
