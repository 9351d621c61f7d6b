import { type Part, WORKERS, type WorkerPart } from "../inject/injector.ts";
import type { Experiment } from "./experiment.ts";

const killed = (part: WorkerPart): Experiment => ({
  name: `${part}-killed`,
  hypothesis: `The ${part} is killed twice in the middle of its work: no endpoint notices, and what it had in hand is done once.`,
  away: [],
  needs: [{ what: "alone", part }],
  holdMs: 3_000,
  inject: async ({ injector, wait, random }) => {
    await injector.kill(part);
    await wait(random.int(500, 1_500));
    await injector.kill(part, { hold: true });
  },
  heal: ({ injector }) => injector.revive(part),
});

const frozen = (part: WorkerPart): Experiment => ({
  name: `${part}-frozen`,
  hypothesis: `The ${part} hangs and comes back: no endpoint notices; what it believes from before does no harm.`,
  away: [],
  needs: [
    { what: "alone", part },
    { what: "freeze", part },
  ],
  holdMs: 6_000,
  inject: ({ injector }) => injector.freeze(part),
  heal: ({ injector }) => injector.revive(part),
});

/** Every relay and every projector: killed, frozen. */
export const workerExperiments: Experiment[] = [killed, frozen].flatMap((kind) => WORKERS.map(kind));

/**
 * The one that a version check is for: of two replicas one hangs with states in its hands, the other writes newer ones, then nothing more is written, and the
 * first comes back and writes what it has.
 */
export const projectorThawedLate: Experiment = {
  name: "projector-thawed-late",
  hypothesis:
    "One of two replicas of Search's and of Session's projector hangs with states in hand while the other goes on: thawed, it overwrites nothing newer.",
  away: [],
  needs: [
    { what: "freeze", part: "search-projector" },
    { what: "freeze", part: "search-projector-2" },
  ],
  holdMs: 3_000,
  inject: async ({ injector }) => {
    await injector.freeze("search-projector");
    await injector.freeze("session-projector");
  },
  heal: async ({ injector, quiet }) => {
    await quiet();
    await injector.revive("search-projector");
    await injector.revive("session-projector");
  },
};

/** A derived store is down, and the projector that has already been given what it cannot write is killed. */
export const projectorKilledWithStore = (store: "elasticsearch" | "clickhouse"): Experiment => {
  const part = store === "elasticsearch" ? "search-projector" : "analytics-projector";
  const other: Part = `${part}-2`;
  const both: Part[] = [part, other];
  return {
    name: `${store}-and-projector-killed`,
    hypothesis: `${store} is killed, and its projectors with the messages they could not write: they are delivered again, none is lost.`,
    away: [store],
    measures: true,
    needs: [{ what: "alone", part }],
    holdMs: 3_000,
    inject: async ({ injector, wait }) => {
      await injector.kill(store, { hold: true });
      await wait(2_500);
      // In a cluster all pods of the Deployment go with the first.
      await Promise.all((injector.kind === "local" ? both : both.slice(0, 1)).map((p) => injector.kill(p)));
    },
    heal: ({ injector }) => injector.revive(store),
  };
};
