import { answersWithout, DECLARED, ENDPOINTS, type Endpoint, type Level, type Store } from "../availability.ts";
import type { Op } from "../history.ts";
import { type Evidence, type FaultWindow, Judge, type Verdict } from "./evidence.ts";

/** No answer may be later. */
export const LATEST_MS = 2_000;
const ANSWERED = 0.999;
/** Of fewer than a thousand requests a single one is more than 0.1 %, and says nothing: so many failures are borne, in an experiment and in all of them. */
const borne = (requests: number): number => Math.max(1, Math.floor(requests * (1 - ANSWERED)));
/** The invariants that the clock of a busy machine can break. */
export const TIMED: ReadonlySet<string> = new Set(["isolation", "prompt"]);
/** Breakers and connections notice within this; before it an endpoint that needs the store may answer either way. */
const NOTICED_MS = 1_200;

/** Whether a request was answered at all: a 503 is none. */
const answered = (op: Op): boolean => op.status > 0 && op.status < 500;

/** A read that waits for a write has a deadline of its own: the wait plus a second. */
export const waits = (op: Op): boolean => "after" in op.did && op.did.after !== undefined;

/** While a store is away, and until all is well again, those who do not need it answer as ever. */
export function checkIsolation({ ops, faults }: Evidence): Verdict[] {
  const available = new Judge(
    "isolation",
    "endpoints that do not need the broken store answer at least 99.9 % of their requests",
  );
  const prompt = new Judge(
    "prompt",
    "no answer of an endpoint that does not need the broken store, and no refusal of one that does, is later than 2 s",
  );
  const all = { requests: 0, failed: 0, experiments: 0 };
  for (const fault of faults) {
    if (fault.total) continue;
    const during = ops.filter((op) => op.at >= fault.from && op.at <= fault.until);
    const unaffected = during.filter((op) => answersWithout(op.endpoint, fault.away));
    const failed = unaffected.filter((op) => !answered(op));
    all.requests += unaffected.length;
    all.failed += failed.length;
    all.experiments++;
    available.check(failed.length <= borne(unaffected.length), () => {
      const examples = failed
        .slice(0, 5)
        .map((op) => `${op.endpoint} ${op.status || "no answer"} after ${Math.round(op.ms)} ms`);
      return `${fault.experiment}: ${failed.length} of ${unaffected.length} failed (${examples.join("; ")})`;
    });
    const late = during.filter((op) => op.ms > LATEST_MS && !waits(op));
    const slowest = Math.max(0, ...late.map((op) => op.ms));
    prompt.check(
      late.length === 0,
      () =>
        `${fault.experiment}: ${late.length} of ${during.length} later than 2 s, the latest ${Math.round(slowest)} ms (${[...new Set(late.map((op) => op.endpoint))].slice(0, 4).join("; ")})`,
    );
  }
  available.check(
    all.failed <= borne(all.requests),
    () => `${all.experiments} experiments together: ${all.failed} of ${all.requests} failed`,
  );
  return [available.verdict(), prompt.verdict()];
}

/** What was measured of one endpoint with one store away. `mixed`: sometimes this, sometimes that. */
export type Measured = Level | "mixed";
export type Matrix = Partial<Record<Endpoint, Partial<Record<Store, Measured>>>>;

const FEWEST = 2;

/** What each endpoint did while exactly one store was quite away. `measured` names the experiments that tell. */
export function measureMatrix(
  ops: readonly Op[],
  faults: readonly FaultWindow[],
  measured: ReadonlySet<string>,
): Matrix {
  const matrix: Matrix = {};
  for (const endpoint of ENDPOINTS) {
    // That somebody is not there (any more) is a whole answer, and says nothing of what would be missing of somebody who is.
    const canDegrade = Object.values(DECLARED[endpoint]).includes("degraded");
    for (const fault of faults) {
      if (!measured.has(fault.experiment) || fault.away.length !== 1) continue;
      const store = fault.away[0]!;
      const seen = ops.filter(
        (op) =>
          op.endpoint === endpoint &&
          op.at >= fault.from + NOTICED_MS &&
          op.at + op.ms <= fault.to &&
          !(canDegrade && op.status === 404),
      );
      if (seen.length < FEWEST) continue;
      const levels = new Set(seen.map((op): Level => (!answered(op) ? "503" : op.degraded ? "degraded" : "full")));
      const level: Measured = levels.size === 1 ? [...levels][0]! : "mixed";
      matrix[endpoint] ??= {};
      const row = matrix[endpoint];
      row[store] = row[store] === undefined || row[store] === level ? level : "mixed";
    }
  }
  return matrix;
}

/** The measured matrix must be the declared one, where it was measured. */
export function checkMatrix(matrix: Matrix): Verdict {
  const judge = new Judge("matrix", "each endpoint does with each store away what the availability table declares");
  for (const endpoint of ENDPOINTS) {
    for (const [store, level] of Object.entries(matrix[endpoint] ?? {}) as [Store, Measured][]) {
      const declared = DECLARED[endpoint][store];
      judge.check(level === declared, () => `${endpoint} without ${store}: ${level}, declared ${declared}`);
    }
  }
  return judge.verdict();
}
