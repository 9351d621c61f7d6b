import { STORES } from "../availability.ts";
import { now } from "../workload/client.ts";
import type { Experiment } from "./experiment.ts";

/** What is acknowledged may for a moment be in NATS's memory alone, and so not in a copy of its files. */
const UNWRITTEN_MS = 1_500;

/** JetStream acknowledges before it has fsynced: this is what a machine that loses power then does. */
export const natsRewound = (): Experiment => {
  let copiedAt = 0;
  return {
    name: "nats-rewound",
    hypothesis:
      "NATS is killed and comes back with its disk as it was seconds before: acknowledged messages have vanished. The relays notice and send them again; only /v1/track, which has no outbox, may lose what was acknowledged since.",
    away: ["nats"],
    needs: [{ what: "rewind" }],
    measures: true,
    holdMs: 4_000,
    inject: async ({ injector, wait, begins, mayLoseTracks }) => {
      copiedAt = now();
      await injector.copyNats();
      await wait(4_000);
      begins();
      await injector.kill("nats", { hold: true });
      // The answer to a publish that JetStream took just before its death may come a little later.
      mayLoseTracks(copiedAt - UNWRITTEN_MS, now() + 2_500);
    },
    heal: async ({ injector }) => {
      await injector.rewindNats();
      await injector.revive("nats");
    },
  };
};

/** The same, and those who hold messages under sequences that are given out again die with them at once. */
export const natsRewoundProjectorsKilled = (): Experiment => {
  const rewound = natsRewound();
  return {
    ...rewound,
    name: "nats-rewound-projectors-killed",
    hypothesis: `${rewound.hypothesis} A projector of each store is killed while they do.`,
    needs: [{ what: "rewind" }, ...KILLED.map((part) => ({ what: "alone" as const, part }))],
    heal: async (lab) => {
      await rewound.heal(lab);
      await lab.wait(lab.random.int(100, 1_500));
      await Promise.all(KILLED.map((part) => lab.injector.kill(part)));
    },
  };
};
const KILLED = ["analytics-projector", "search-projector", "session-projector"] as const;

/** Mistakes of people with too many rights. */
export const byHand: Experiment[] = [
  {
    name: "slot-dropped",
    hypothesis:
      "Somebody drops the relay's replication slot: what was committed since is not in the new slot; the relay finds it in the outbox and sends it.",
    away: [],
    holdMs: 2_000,
    inject: ({ injector }) => injector.dropSlot(),
    heal: async () => {},
  },
  ...(
    [
      ["USERS", "search"],
      ["USERS", "session"],
      ["FACTS", "analytics"],
    ] as const
  ).map(
    ([stream, durable]): Experiment => ({
      name: `consumer-deleted-${durable}`,
      hypothesis: `Somebody deletes the durable consumer of ${durable}: it is made again and everything is delivered again, to no effect.`,
      away: [],
      needs: [{ what: "delete-consumer" }],
      holdMs: 2_000,
      inject: ({ injector }) => injector.deleteConsumer(stream, durable),
      heal: async () => {},
    }),
  ),
];

export const everythingRestarted: Experiment = {
  name: "everything-restarted",
  hypothesis:
    "Everything is stopped and started again under load: nothing acknowledged is lost, and it finds itself again.",
  away: [...STORES],
  total: true,
  needs: [{ what: "restart-all" }],
  holdMs: 0,
  inject: ({ injector }) => injector.restartAll(),
  heal: async () => {},
};
