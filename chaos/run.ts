import { setTimeout as sleep } from "node:timers/promises";
import { STORES } from "./availability.ts";
import { check } from "./check/checker.ts";
import type { Evidence, FaultWindow, Final, Verdict } from "./check/evidence.ts";
import type { Window } from "./check/facts.ts";
import { checkMatrix, LATEST_MS, type Matrix, measureMatrix, TIMED, waits } from "./check/isolation.ts";
import { COUNTED, readFinal } from "./check/read-final.ts";
import type { Experiment, Lab } from "./experiments/experiment.ts";
import type { History, Op } from "./history.ts";
import type { Random } from "./random.ts";
import type { Target } from "./system.ts";
import { ChaosClient, now } from "./workload/client.ts";
import { Actions } from "./workload/people.ts";
import { Workload } from "./workload/workload.ts";

const STEADY_MS = 4_000;
/** A steady state has no later answer: a Java engine that was just restarted is up long before it is itself again, and that is the last fault's doing. */
const STEADY_LATEST_MS = 750;
/** So many steady states are tried for before an experiment begins with what there is, or is given up when that is not even in time. */
const STEADY_TRIES = 10;
/** Generous: on a slow machine a Java engine takes its time to start. How long it really took is in the report. */
const WELL_MS = 240_000;
const CONVERGE_MS = 120_000;
/** A status asks every service and every store: seen too often it is a load of its own. */
const SAMPLE_MS = 1_000;
const LOOK_MS = 400;
/** No step of an experiment takes longer. */
const STEP_MS = 240_000;

/** As the status call showed it at a moment: staleness and lag of each projector. */
export interface Sample {
  at: number;
  staleness: Record<string, number>;
  lag: Record<string, number>;
}

export interface ExperimentResult {
  name: string;
  hypothesis: string;
  skipped?: string;
  /** When the steady state began, the fault, its end, the system was well again, nothing was written any more, the check was done. */
  steadyAt: number;
  fault?: FaultWindow;
  pausedAt?: number;
  convergedMs?: number;
  verdicts: Verdict[];
  /** What went wrong with the experiment itself. */
  error?: string;
}

export interface RunResult {
  seed: number;
  suite: string;
  startedAt: string;
  seconds: number;
  requests: number;
  users: number;
  experiments: ExperimentResult[];
  matrix: Matrix;
  matrixVerdict: Verdict;
  samples: Sample[];
  passed: boolean;
  /** Availability and lateness were measured and not judged. */
  patient: boolean;
}

export interface RunOptions {
  target: Target;
  suite: string;
  seed: number;
  random: Random;
  experiments: Experiment[];
  history: History;
  /** Nobody else uses the system. */
  alone: boolean;
  /** Stop after the first experiment that fails. */
  bail: boolean;
  pace: number;
  /** What the clock decides (availability, lateness) is measured and not judged: for a machine that does other work as well. */
  patient: boolean;
  say: (line: string) => void;
}

/** Runs the experiments one after the other under one workload, checking after each everything that has happened so far. */
export async function run(options: RunOptions): Promise<RunResult> {
  const { target, history, say, random } = options;
  const started = Date.now();
  const client = new ChaosClient(target.url, target.operatorToken, history);
  const actions = new Actions(client, started.toString(36).slice(-6), new Date(started - 86_400_000).toISOString());
  await untilWell(actions, 0, WELL_MS);
  const baseline = await readTotals(actions);
  const workload = new Workload({ actions, random, pace: options.pace });
  const samples: Sample[] = [];
  const faults: FaultWindow[] = [];
  const exempt: Window[] = [];
  const told = new Set<string>();
  const results: ExperimentResult[] = [];
  const ended = new AbortController();
  const sampler = sample(actions, samples, ended.signal);
  try {
    await workload.start();
    for (const experiment of options.experiments) {
      const result = await runOne(experiment);
      results.push(result);
      tell(result, say);
      if (result.error || (options.bail && result.verdicts.some((v) => v.violations.length > 0))) break;
    }
  } finally {
    ended.abort();
    await target.injector.mendAll().catch(() => {});
    await workload.stop();
    await sampler;
    history.flush();
    await client.close();
  }
  const measures = new Set(options.experiments.filter((e) => e.measures).map((e) => e.name));
  const matrix = measureMatrix(history.ops, faults, measures);
  const measured = checkMatrix(matrix);
  const matrixVerdict = options.patient ? { ...measured, violations: [], notJudged: measured.violations } : measured;
  const bad = results.some((r) => r.error || r.verdicts.some((v) => v.violations.length > 0));
  return {
    seed: options.seed,
    suite: options.suite,
    startedAt: new Date(started).toISOString(),
    seconds: Math.round((Date.now() - started) / 1000),
    requests: history.ops.length,
    users: new Set(history.ops.flatMap((op) => (op.did.kind === "create" ? (op.did.user ?? []) : []))).size,
    experiments: results,
    matrix,
    matrixVerdict,
    samples,
    passed: !bad && matrixVerdict.violations.length === 0,
    patient: options.patient,
  };

  async function runOne(experiment: Experiment): Promise<ExperimentResult> {
    const result: ExperimentResult = {
      name: experiment.name,
      hypothesis: experiment.hypothesis,
      steadyAt: Date.now(),
      verdicts: [],
    };
    for (const need of experiment.needs ?? []) {
      const why = await target.injector.cannot(need.what, need.part);
      if (why) return { ...result, skipped: why };
    }
    const controller = new AbortController();
    const lab: Lab = {
      injector: target.injector,
      random: random.fork(experiment.name),
      signal: controller.signal,
      wait: (ms) => sleep(ms, undefined, { signal: controller.signal }),
      begins: () => {
        if (result.fault) result.fault.from = now();
      },
      quiet: async () => void (await workload.pause()),
      mayLoseTracks: (from, to) => exempt.push({ from, to }),
    };
    try {
      workload.resume();
      await untilWell(actions, 0, WELL_MS);
      result.steadyAt = await steady(lab);
      const fault: FaultWindow = {
        experiment: experiment.name,
        away: experiment.away,
        ...(experiment.total ? { total: true as const } : {}),
        from: now(),
        to: 0,
        until: 0,
      };
      result.fault = fault;
      faults.push(fault);
      // Until it is over everything counts as within it.
      fault.to = fault.until = Number.MAX_SAFE_INTEGER;
      await within(STEP_MS, "the injection", experiment.inject(lab));
      await lab.wait(experiment.holdMs);
      fault.to = now();
      await within(STEP_MS, "the healing", experiment.heal(lab));
      await untilWell(actions, Date.now(), WELL_MS);
      fault.until = now();
      result.pausedAt = await workload.pause();
      const converged = await converge(actions, workload, result.pausedAt);
      result.convergedMs = Date.now() - result.pausedAt;
      const final = await readFinal({ actions, workload, target, history, pausedAt: result.pausedAt, converged });
      result.verdicts = judge(final);
    } catch (error) {
      result.error = (error as Error).stack ?? String(error);
      await target.injector.mendAll().catch(() => {});
    } finally {
      controller.abort();
    }
    return result;
  }

  /** Nothing is broken before all is well: every request of a few seconds answered, none slow. Returns when they began. */
  async function steady(lab: Lab): Promise<number> {
    for (let attempt = 1; ; attempt++) {
      const from = now();
      await lab.wait(STEADY_MS);
      const during = history.ops.filter((op) => op.at >= from);
      const worseThan = (ms: number): Op[] =>
        during.filter((op) => op.status === 0 || op.status >= 500 || (op.ms > ms && !waits(op)));
      if (worseThan(STEADY_LATEST_MS).length === 0 || options.patient) return from;
      if (attempt === STEADY_TRIES) {
        const bad = worseThan(LATEST_MS);
        const [first] = bad;
        if (!first) return from;
        throw new Error(
          `no steady state to begin with: ${bad.length} of ${during.length} requests failed or were late (${first.endpoint} ${first.status} after ${Math.round(first.ms)} ms). Is the machine doing something else?`,
        );
      }
    }
  }

  function judge(final: Final): Verdict[] {
    const evidence: Evidence = {
      ops: history.ops,
      faults,
      exempt,
      final,
      baseline,
      alone: options.alone,
    };
    // Everything since the run began is judged again: what an earlier experiment was blamed for is not laid at this one's door too.
    const verdicts = check(evidence).map((v) => {
      const fresh = v.violations.filter((text) => !told.has(`${v.invariant}: ${text}`));
      for (const text of fresh) told.add(`${v.invariant}: ${text}`);
      return { ...v, violations: fresh };
    });
    if (!options.patient) return verdicts;
    return verdicts.map((v) => (TIMED.has(v.invariant) ? { ...v, violations: [], notJudged: v.violations } : v));
  }
}

async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  const late = sleep(ms, undefined, { ref: false }).then(() => {
    throw new Error(`${what} did not end within ${ms / 1000} s`);
  });
  return Promise.race([work, late]);
}

interface Status {
  stores: Record<string, { up: boolean }>;
  projectors: Record<
    string,
    { asOf: string | null; stalenessSeconds: number | null; lag: number | null; deadLetters: number | null }
  >;
}

async function statusOf(actions: Actions): Promise<Status | undefined> {
  const answer = await actions.status("observer");
  return answer.status === 200 ? (answer.body as Status) : undefined;
}

/** Waits until every store is up and every read model is true as of after `moment`. Throws when that takes too long: the system did not heal. */
async function untilWell(actions: Actions, moment: number, ms: number): Promise<void> {
  const deadline = Date.now() + ms;
  for (let last = "no answer"; ; await sleep(LOOK_MS)) {
    const status = await statusOf(actions);
    if (status) {
      const down = STORES.filter((store) => !status.stores[store]?.up);
      const behind = behindOf(status, moment);
      if (down.length === 0 && behind.length === 0) return;
      last = [...down.map((store) => `${store} is down`), ...behind].join(", ");
    }
    if (Date.now() > deadline) throw new Error(`not well within ${ms / 1000} s: ${last}`);
  }
}

function behindOf(status: Status, moment: number): string[] {
  return ["search", "session", "analytics"].flatMap((name) => {
    const asOf = status.projectors[name]?.asOf;
    return asOf && Date.parse(asOf) > moment ? [] : [`${name} is true as of ${asOf ?? "never"}`];
  });
}

/** Waits until the system itself says that everything written so far is everywhere and every erasure is complete; else why not. */
async function converge(actions: Actions, workload: Workload, moment: number): Promise<true | string> {
  const deadline = Date.now() + CONVERGE_MS;
  for (let last = ""; ; await sleep(LOOK_MS)) {
    for (const open of [...workload.openErasures]) await workload.askReceipt("observer", open);
    const status = await statusOf(actions);
    if (status) {
      const open = workload.openErasures;
      const behind = behindOf(status, moment);
      if (behind.length === 0 && open.length === 0) return true;
      last = [...behind, ...(open.length > 0 ? [`${open.length} erasures are open (${open[0]!.user})`] : [])].join(
        ", ",
      );
    }
    if (Date.now() > deadline) return `not within ${CONVERGE_MS / 1000} s: ${last || "no status"}`;
  }
}

async function readTotals(actions: Actions): Promise<Evidence["baseline"]> {
  const counts: Record<string, number> = {};
  for (const name of COUNTED) counts[name] = (await actions.count("observer", name)).body?.total ?? 0;
  return { counts, signups: (await actions.signups("observer")).body?.total ?? 0 };
}

async function sample(actions: Actions, samples: Sample[], signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const status = await statusOf(actions);
    const entries = Object.entries(status?.projectors ?? {});
    samples.push({
      at: Date.now(),
      staleness: Object.fromEntries(
        entries.flatMap(([name, p]) => (p.stalenessSeconds === null ? [] : [[name, p.stalenessSeconds]])),
      ),
      lag: Object.fromEntries(entries.flatMap(([name, p]) => (p.lag === null ? [] : [[name, p.lag]]))),
    });
    await sleep(SAMPLE_MS, undefined, { signal }).catch(() => {});
  }
}

function tell(result: ExperimentResult, say: (line: string) => void): void {
  if (result.skipped) {
    say(`- ${result.name}: left out, ${result.skipped}`);
    return;
  }
  const bad = result.verdicts.filter((v) => v.violations.length > 0);
  const { fault } = result;
  const took =
    fault && !result.error
      ? `broken ${seconds(fault.to - fault.from)}, well again after ${seconds(fault.until - fault.to)}, equal after ${seconds(result.convergedMs ?? 0)}`
      : "";
  say(
    `${bad.length > 0 || result.error ? "✗" : "✓"} ${result.name}: ${took}, ${result.verdicts.reduce((n, v) => n + v.checked, 0)} checks`,
  );
  if (result.error) say(`    ${result.error}`);
  for (const verdict of bad) {
    say(`    ${verdict.invariant}: ${verdict.says}`);
    for (const violation of verdict.violations.slice(0, 5)) say(`      ${violation}`);
    if (verdict.violations.length > 5) say(`      ... ${verdict.violations.length - 5} more`);
  }
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
