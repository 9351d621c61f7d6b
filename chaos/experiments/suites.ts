import type { Random } from "../random.ts";
import type { Experiment } from "./experiment.ts";
import { byHand, everythingRestarted, natsRewound, natsRewoundProjectorsKilled } from "./log.ts";
import { randomPairs } from "./pairs.ts";
import { storeExperiments } from "./stores.ts";
import { projectorKilledWithStore, projectorThawedLate, workerExperiments } from "./workers.ts";

const PAIRS = 6;

/** Every store killed once under load; the derived ones together with their projectors, NATS with what it had not fsynced. */
export function quick(random: Random): Experiment[] {
  const named = (name: string): Experiment => storeExperiments.find((e) => e.name === name)!;
  const experiments = [
    named("postgres-killed"),
    named("redis-killed"),
    projectorKilledWithStore("clickhouse"),
    projectorKilledWithStore("elasticsearch"),
    natsRewound(),
    projectorThawedLate,
  ];
  return shuffle(experiments, random);
}

/** Everything. */
export function full(random: Random): Experiment[] {
  return [
    ...storeExperiments,
    ...workerExperiments,
    projectorThawedLate,
    projectorKilledWithStore("clickhouse"),
    projectorKilledWithStore("elasticsearch"),
    natsRewound(),
    natsRewoundProjectorsKilled(),
    ...byHand,
    ...randomPairs(random, [...storeExperiments, ...workerExperiments], PAIRS),
    everythingRestarted,
  ];
}

function shuffle<T>(items: T[], random: Random): T[] {
  const left = [...items];
  return items.map(() => left.splice(random.int(0, left.length - 1), 1)[0]!);
}
