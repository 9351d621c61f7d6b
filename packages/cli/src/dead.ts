import { parseArgs } from "node:util";
import type { DeadLetter } from "@quartet/contracts";
import { call, findSystem, type SystemAddress, UsageError } from "./client.ts";

const USAGE = `Usage: npm run dead -- list [--limit N] | show SEQ | retry SEQ|all | drop SEQ|all`;

/** `npm run dead -- list|show|retry|drop`: messages that no projector could apply. */
export async function main(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { limit: { type: "string" } } });
  const [verb, which] = positionals;
  const system = findSystem();
  switch (verb) {
    case "list": {
      const letters = await all(system, Number(values.limit ?? 100));
      if (letters.length === 0) console.log("No dead letters.");
      for (const d of letters) console.log(`${d.seq}\t${d.at}\t${d.consumer}\t${d.subject}\t${d.reason}`);
      return;
    }
    case "show":
      console.log(JSON.stringify((await call(system, "GET", `/v1/admin/dead/${sequence(which)}`)).body, null, 2));
      return;
    case "retry":
    case "drop": {
      const seqs =
        which === "all" ? (await all(system, Number.POSITIVE_INFINITY)).map((d) => d.seq) : [sequence(which)];
      for (const seq of seqs) {
        if (verb === "retry") await call(system, "POST", `/v1/admin/dead/${seq}/retry`);
        else await call(system, "DELETE", `/v1/admin/dead/${seq}`);
      }
      console.log(
        `${seqs.length} dead letter${seqs.length === 1 ? "" : "s"} ${verb === "retry" ? "sent again" : "dropped"}.`,
      );
      return;
    }
    default:
      throw new UsageError(USAGE);
  }
}

function sequence(text: string | undefined): number {
  if (!text || !/^\d+$/.test(text)) throw new UsageError(USAGE);
  return Number(text);
}

async function all(system: SystemAddress, limit: number): Promise<DeadLetter[]> {
  const letters: DeadLetter[] = [];
  let after = 0;
  while (letters.length < limit) {
    const page = Math.min(100, limit - letters.length);
    const { body } = await call(system, "GET", `/v1/admin/dead?limit=${page}&after=${after}`);
    const { deadLetters, next } = body as { deadLetters: DeadLetter[]; next?: number };
    letters.push(...deadLetters);
    if (next === undefined || deadLetters.length === 0) break;
    after = next;
  }
  return letters;
}
