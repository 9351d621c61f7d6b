import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { AuditFindingBody } from "@quartet/contracts";
import { call, findSystem, type SystemAddress, UsageError } from "./client.ts";

const USAGE = "Usage: npm run audit -- [--timeout SECONDS]";
const STORES = ["search", "session", "analytics"];
const SHOWN = 20;

/**
 * `npm run audit`: compares every derived store with its source now, and again until nothing is wrong any more. Prints for each what was compared, what had
 * drifted and what was mended. The exit code is 0 only if all were clean in the end.
 */
export async function main(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({ args, options: { timeout: { type: "string", default: "90" } } });
  const seconds = Number(values.timeout);
  if (positionals.length > 0 || !(seconds > 0)) throw new UsageError(USAGE);
  const system = findSystem();
  const end = Date.now() + seconds * 1000;
  const drift = new Map<string, number>(STORES.map((store) => [store, 0]));
  const mended = new Map<string, number>(STORES.map((store) => [store, 0]));
  for (;;) {
    const found = await auditOnce(system, end);
    for (const { store, ...finding } of found.values()) {
      drift.set(store, (drift.get(store) ?? 0) + finding.drift);
      mended.set(store, (mended.get(store) ?? 0) + finding.mended);
      for (const { id, kind } of finding.users.slice(0, SHOWN)) {
        console.log(`drift in ${store}: ${kind} ${store === "analytics" ? "fact of " : ""}user ${id ?? "(nobody)"}`);
      }
      if (finding.drift > SHOWN) console.log(`drift in ${store}: and ${finding.drift - SHOWN} more`);
    }
    const clean = STORES.every((store) => found.get(store)?.drift === 0);
    if (!clean && Date.now() < end) continue;
    console.log("store\tcompared\tdrift\tmended\tin the end");
    for (const store of STORES) {
      const last = found.get(store);
      const state = last ? (last.drift === 0 ? "clean" : "drift") : "not compared";
      console.log(`${store}\t${last?.compared ?? "-"}\t${drift.get(store)}\t${mended.get(store)}\t${state}`);
    }
    if (!clean) process.exitCode = 1;
    return;
  }
}

/** One audit of every store that answers in time. */
async function auditOnce(system: SystemAddress, end: number): Promise<Map<string, AuditFindingBody>> {
  const found = new Map<string, AuditFindingBody>();
  const giveUpAfterMs = Math.max(1000, end - Date.now());
  const asked = await call(system, "POST", "/v1/admin/audits", { giveUpAfterMs });
  const { requested } = asked.body as { requested: Record<string, string> };
  while (found.size < STORES.length && Date.now() < end) {
    await sleep(250);
    const { body } = await call(system, "GET", "/v1/admin/audits", { giveUpAfterMs });
    for (const finding of (body as { audits: AuditFindingBody[] }).audits) {
      const since = requested[finding.store];
      if (since && Date.parse(finding.startedAt) >= Date.parse(since)) found.set(finding.store, finding);
    }
  }
  return found;
}
