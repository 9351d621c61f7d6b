import type { Evidence, Verdict } from "./evidence.ts";
import { gather } from "./facts.ts";
import { checkFinal } from "./final.ts";
import { checkIsolation } from "./isolation.ts";
import { checkReads } from "./reads.ts";

/** Decides every invariant. Pure: the same history and the same last reading give the same verdicts. */
export function check(evidence: Evidence): Verdict[] {
  const known = gather(evidence.ops, evidence.exempt);
  return [...checkFinal(evidence, known), ...checkReads(evidence, known), ...checkIsolation(evidence)];
}
