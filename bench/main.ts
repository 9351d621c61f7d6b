import { writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, totalmem, type } from "node:os";
import { parseArgs } from "node:util";
import { forget, launch } from "../test/lib/launch.ts";
import { type LatencyResult, latency, POLL_MS, populate } from "./latency.ts";
import { COMPARISON_HEAD, comparisonRow, figure, table } from "./numbers.ts";
import { benchProjection } from "./projection.ts";
import { benchRelay } from "./relay.ts";
import { benchShared } from "./shared.ts";

const USAGE = `npm run bench -- [relay] [projection] [latency] [shared] [--quick] [--write]

What Quartet does per second beside what its engines can do, how old its read models are, and what one shared PostgreSQL answers
to the same questions. All parts unless some are named.
  --quick   fewer events and rounds: about two minutes
  --write   also into docs/bench.md`;

const PARTS = ["relay", "projection", "latency", "shared"] as const;
type Part = (typeof PARTS)[number];

interface Plan {
  /** A part stops taking rounds after so long, s. */
  budget: Record<"relay" | "projection", number>;
  relay: { events: number; rounds: number };
  projection: { people: number; facts: number; rounds: number };
  latency: { people: number; rates: number[]; seconds: number };
  shared: { people: number; eventsEach: number; times: number };
  /** The whole run is ended after so long, s. */
  most: number;
}

const FULL: Plan = {
  budget: { relay: 45, projection: 100 },
  relay: { events: 30_000, rounds: 5 },
  projection: { people: 20_000, facts: 80_000, rounds: 5 },
  latency: { people: 6_000, rates: [50, 200], seconds: 25 },
  shared: { people: 50_000, eventsEach: 10, times: 240 },
  most: 600,
};
const QUICK: Plan = {
  budget: { relay: 12, projection: 30 },
  relay: { events: 10_000, rounds: 1 },
  projection: { people: 5_000, facts: 20_000, rounds: 1 },
  latency: { people: 2_000, rates: [50], seconds: 10 },
  shared: { people: 10_000, eventsEach: 5, times: 80 },
  most: 240,
};

/** One part's Markdown, and the versions of the engines it met. */
interface Chapter {
  text: string;
  versions: Record<string, string>;
}

async function relayChapter({ relay, budget }: Plan): Promise<Chapter> {
  const { comparisons, versions } = await benchRelay({ ...relay, untilMs: performance.now() + budget.relay * 1000 });
  const text = `## Relay: store -> JetStream

The relay drains ${figure(relay.events)} events that wait in its store, beside one Node process that publishes the same payloads to streams with the same
settings: no store, no fence, no message id, 2,000 publishes in flight. From the first ack to the last.

${table(COMPARISON_HEAD, comparisons.map(comparisonRow))}`;
  return { text, versions };
}

async function projectionChapter({ projection, budget }: Plan): Promise<Chapter> {
  const { comparisons, consume, versions } = await benchProjection({
    ...projection,
    untilMs: performance.now() + budget.projection * 1000,
  });
  const text = `## Projection: JetStream -> store

Each service's process with \`ROLE=projector\` catches up with a stream of ${figure(projection.people)} users or ${figure(projection.facts)} facts (all of
it: pull, decode and check, order, write, verdicts, ack), beside its empty store taking the same documents as prepared bulk requests, two in flight.

${table(COMPARISON_HEAD, comparisons.map(comparisonRow))}

The other limit is JetStream's: one Node process that pulls and acknowledges each message and does nothing with it.

${table(
  ["stream", "messages/s"],
  consume.map(({ stream, perSecond }) => [stream, figure(perSecond)]),
)}`;
  return { text, versions };
}

async function latencyChapter({ latency: plan }: Plan): Promise<Chapter> {
  const system = await launch({ withinMs: 180_000, env: { WARM_UP_MS: "10000" } });
  const end = () => void system.launcher.kill("SIGINT");
  process.once("exit", end);
  const results: LatencyResult[] = [];
  try {
    const population = await populate(system.url, system.operatorToken, plan.people);
    // Code that has not run yet is slow, and no part of a system that runs.
    await latency(population, plan.rates[0]!, 5);
    for (const rate of plan.rates) {
      const some = await latency(population, rate, plan.seconds);
      for (const r of some) {
        console.error(`  ${rate}/s ${r.target}: p50 ${figure(r.p50)} ms, p99 ${figure(r.p99)} ms of ${r.samples}`);
      }
      results.push(...some);
    }
  } finally {
    await system.stop();
    process.off("exit", end);
    forget(system.home);
  }
  const rows = results.map((r) => [
    `${r.writesPerSecond}/s`,
    `${figure(r.achieved)}/s${r.failed > 0 ? `, ${r.failed} refused` : ""}`,
    r.target,
    `${figure(r.p50)} ms`,
    `${figure(r.p99)} ms`,
    `${(r.within1s * 100).toFixed(1)} %`,
    r.samples,
  ]);
  const text = `## Latency: commit -> visible

PATCHes by an operator at a steady rate for ${plan.seconds} s, through the gateway of a whole local system of five engines and five services; the bench is on
the same machine. From the moment the write was acknowledged to the client. "searchable" is an ordinary search that is repeated every ${POLL_MS} ms;
Search writes at most every 200 ms under a trickle, Analytics every 250 ms, and on average half of that is in it; "counted" and "session copy" are reads that wait with the write's token. Four writes a second are followed.

${table(["writes asked for", "acknowledged", "visible as", "p50", "p99", "within 1 s", "samples"], rows)}`;
  return { text, versions: {} };
}

async function sharedChapter({ shared: plan }: Plan): Promise<Chapter> {
  const { answers, versions } = await benchShared(plan);
  const ms = (value: number) => `${value < 10 ? value.toFixed(2) : figure(value)} ms`;
  const rows = answers.map(({ question, store, own, shared, asked }) => [
    question,
    store,
    ms(own.p50),
    ms(own.p99),
    ms(shared.p50),
    ms(shared.p99),
    `**${(shared.p50 / own.p50).toFixed(1)}**`,
    asked,
  ]);
  const text = `## The right database for the job

The same questions of the store that was chosen for each, by the code of its service, and of one PostgreSQL that holds everything (${figure(plan.people)} people,
${figure(plan.people * plan.eventsEach)} events, 5,000 sessions; 1 GB of buffers, trigram and time indexes, prepared statements). One question at a time, in turns, no other load. A ratio above 1
is what the chosen store buys, below 1 what it costs. The search engine also checks each hit against erasures that came since the last refresh, and takes words in any field, a phrase and
a bio into account, which the trigrams do not; the shared database answers as of this very moment, which none of the read models does.

${table(["question", "store", "p50", "p99", "shared PostgreSQL p50", "p99", "ratio of p50", "asked"], rows)}`;
  return { text, versions };
}

const CHAPTERS: Record<Part, (plan: Plan) => Promise<Chapter>> = {
  relay: relayChapter,
  projection: projectionChapter,
  latency: latencyChapter,
  shared: sharedChapter,
};

/** What the figures were taken on. No names: a machine is its cores and its memory. */
function machine(versions: Record<string, string>, loadBefore: number): string {
  const cores = availableParallelism();
  const memory = Math.round(totalmem() / 2 ** 30);
  const model = cpus()[0]?.model.trim();
  const all = { Node: process.versions.node, ...versions };
  const software = Object.entries(all).map(([name, version]) => `${name} ${version}`);
  const busy = loadBefore > cores * 0.25;
  return `${cores} cores${model ? ` (${model})` : ""}, ${memory} GiB of memory, ${type()}; ${software.join(", ")}. Load average at the start: ${loadBefore.toFixed(1)}${
    busy
      ? ": **other programs were busy on this machine, so trust the ratios rather than the rates, and neither too far**"
      : ""
  }.`;
}

function report(chapters: Chapter[], about: string, quick: boolean): string {
  return `# What it does per second

Taken by \`npm run bench${quick ? " -- --quick" : ""}\` on ${new Date().toISOString().slice(0, 10)}. ${about}

Every rate stands beside the limit of the engine below it, measured in the same run, in turns; a ratio is the median of the rounds' ratios, after one round
that is thrown away. Engines, services and the bench share the cores, so a part that would have a machine of its own elsewhere has a share here.

${chapters.map(({ text }) => text).join("\n\n")}
`;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { quick: { type: "boolean" }, write: { type: "boolean" }, help: { type: "boolean", short: "h" } },
  });
  const unknown = positionals.filter((name) => !(PARTS as readonly string[]).includes(name));
  if (values.help || unknown.length > 0) {
    console.log(unknown.length > 0 ? `${unknown.join(" ")}: no such part\n\n${USAGE}` : USAGE);
    process.exitCode = unknown.length > 0 ? 2 : 0;
    return;
  }
  const quick = values.quick ?? false;
  const plan = quick ? QUICK : FULL;
  const loadBefore = loadavg()[0] ?? 0;
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
  const chapters: Chapter[] = [];
  const finish = (): string => {
    const versions = Object.assign({}, ...chapters.map((c) => c.versions)) as Record<string, string>;
    const text = report(chapters, machine(versions, loadBefore), quick);
    console.log(`\n${text}`);
    return text;
  };
  setTimeout(() => {
    console.error(`Not done within ${plan.most} s: this machine is too busy. What is done so far:`);
    finish();
    process.exit(1);
  }, plan.most * 1000).unref();
  for (const part of PARTS) {
    if (positionals.length > 0 && !positionals.includes(part)) continue;
    console.error(`${part} ...`);
    chapters.push(await CHAPTERS[part](plan));
  }
  const text = finish();
  if (values.write) writeFileSync(new URL("../docs/bench.md", import.meta.url), text);
}

await main();
