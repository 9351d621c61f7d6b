import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { clusterSystem } from "./cluster.ts";
import { drift } from "./drift.ts";
import { full, quick } from "./experiments/suites.ts";
import { History } from "./history.ts";
import { outages } from "./outage.ts";
import { seeded } from "./random.ts";
import { writeAvailability, writeReport } from "./report/write.ts";
import { run } from "./run.ts";
import { runningSystem, startPrivateSystem, type Target } from "./system.ts";

const USAGE = `Usage: npm run chaos -- [options]
  --quick           every store killed once, in a few minutes (default: everything, about half an hour)
  --only a,b        experiments whose name contains one of these
  --list            their names
  --seed n          the same experiments in the same order (default: of the day)
  --pace x          pauses between the requests of each client, times x (default 2: what two cores can bear)
  --patient         measure availability and lateness, but do not judge by them: for a machine that does other work as well
  --bail            stop at the first experiment that fails
  --out folder      where report.html, report.json and history.jsonl go (default .quartet/chaos)
  --outage          instead of all that: --count events (100000) published while each derived store is down for --seconds (60)
  --drift           instead of all that: with --users people (100000), things changed by hand in each derived store are put right within a minute
  --write           write docs/availability.md from what was measured
  --context name    a Kubernetes cluster, by its kubeconfig context; --namespace (default quartet)
Starts a system of its own, unless QUARTET_HOME names one that runs and may be broken.`;

const OPTIONS = {
  quick: { type: "boolean", default: false },
  only: { type: "string" },
  list: { type: "boolean", default: false },
  seed: { type: "string" },
  pace: { type: "string", default: "2" },
  outage: { type: "boolean", default: false },
  count: { type: "string", default: "100000" },
  seconds: { type: "string", default: "60" },
  drift: { type: "boolean", default: false },
  users: { type: "string", default: "100000" },
  patient: { type: "boolean", default: false },
  bail: { type: "boolean", default: false },
  out: { type: "string", default: ".quartet/chaos" },
  write: { type: "boolean", default: false },
  context: { type: "string" },
  namespace: { type: "string", default: "quartet" },
  help: { type: "boolean", default: false },
} as const;

const DRIFT_ROUNDS = 3;

async function main(): Promise<number> {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const seed = values.seed === undefined ? Math.floor(Date.now() / 86_400_000) : Number(values.seed);
  if (!Number.isSafeInteger(seed)) throw new Error("--seed must be a whole number");
  const random = seeded(seed);
  const suite = values.quick ? "quick" : "full";
  const only = values.only?.split(",");
  const all = values.quick ? quick(random) : full(random);
  const isName = (part: string): boolean => all.some(({ name }) => name === part);
  const experiments = all.filter(
    (experiment) =>
      !only || only.some((part) => experiment.name === part || (!isName(part) && experiment.name.includes(part))),
  );
  if (values.list) {
    for (const { name, hypothesis } of experiments) console.log(`${name}\n    ${hypothesis}`);
    return 0;
  }
  const say = (line: string): void => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`);
  const what = values.outage ? "outages" : values.drift ? "drift" : `${suite}: ${experiments.length} experiments`;
  say(`${what}, seed ${seed}`);
  mkdirSync(values.out, { recursive: true });
  const history = new History(join(values.out, "history.jsonl"));
  const own = !values.context && !process.env.QUARTET_HOME && !process.env.QUARTET_URL;
  const target = await openTarget(values, say);
  // Ctrl-C leaves nothing broken and nothing running.
  const interrupted = async (): Promise<void> => {
    await target.injector.mendAll().catch(() => {});
    await target.close();
    process.exit(130);
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void interrupted());
  try {
    if (values.outage) {
      const results = await outages({ target, count: Number(values.count), seconds: Number(values.seconds), say });
      writeFileSync(join(values.out, "outage.json"), `${JSON.stringify(results, null, 1)}\n`);
      return results.every((r) => r.verdict.violations.length === 0) ? 0 : 1;
    }
    if (values.drift) {
      const result = await drift({ target, users: Number(values.users), rounds: DRIFT_ROUNDS, random, say });
      writeFileSync(join(values.out, "drift.json"), `${JSON.stringify(result, null, 1)}\n`);
      for (const violation of result.verdict.violations) say(`✗ ${violation}`);
      if (result.verdict.violations.length === 0) say(`✓ ${result.verdict.says} (${result.verdict.checked} of them)`);
      return result.verdict.violations.length === 0 ? 0 : 1;
    }
    const result = await run({
      target,
      suite,
      seed,
      random,
      experiments,
      history,
      alone: own,
      bail: values.bail,
      pace: Number(values.pace),
      patient: values.patient,
      say,
    });
    const report = writeReport(values.out, result, history);
    if (values.write && values.patient) say("docs/availability.md is not written: a busy machine measures nothing");
    else if (values.write) writeAvailability(result);
    for (const violation of result.matrixVerdict.violations) say(`availability: ${violation}`);
    const verdict = result.passed ? "every invariant held" : "NOT every invariant held";
    say(`report: ${report}`);
    say(`${verdict}: ${result.requests} requests, ${result.users} users, ${result.seconds} s, seed ${seed}`);
    if (!result.passed && target.logs) {
      cpSync(target.logs, join(values.out, "logs"), { recursive: true });
      say(`logs of its processes: ${join(values.out, "logs")}`);
    }
    return result.passed ? 0 : 1;
  } finally {
    await target.close();
  }
}

async function openTarget(
  values: { context?: string | undefined; namespace: string; drift: boolean },
  say: (line: string) => void,
): Promise<Target> {
  if (values.context) return clusterSystem(values.context, values.namespace, say);
  if (process.env.QUARTET_HOME) return runningSystem(process.env.QUARTET_HOME);
  // What is changed by hand is left alone by the other runs, so that it would be found; here somebody is to find it.
  return startPrivateSystem(say, values.drift ? {} : { AUDIT_INTERVAL_MS: "0" });
}

// Nothing that is still open may keep it.
process.exit(await main());
