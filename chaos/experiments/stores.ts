import { STORES, type Store } from "../availability.ts";
import { type Experiment, NAMES } from "./experiment.ts";

/** What goes on without it, in words. */
const WITHOUT: Record<Store, string> = {
  postgres: "nobody signs up, changes or logs in; sessions, search, analytics and tracking go on",
  redis: "nobody logs in and no token is good; sign-ups, public reads, search, analytics and anonymous tracking go on",
  clickhouse: "analytics answers 503; everything else goes on, and tracked events wait on the log",
  elasticsearch: "search answers 503; everything else goes on, and changes wait on the log",
  nats: "tracking answers 503; every other endpoint goes on, derived answers stand still and say since when",
};

const killed = (store: Store): Experiment => ({
  name: `${store}-killed`,
  hypothesis: `${NAMES[store]} is killed (SIGKILL) and stays down: ${WITHOUT[store]}. Nothing that was acknowledged is lost.`,
  away: [store],
  measures: true,
  holdMs: 5_000,
  inject: ({ injector }) => injector.kill(store, { hold: true }),
  heal: ({ injector }) => injector.revive(store),
});

const frozen = (store: Store): Experiment => ({
  name: `${store}-frozen`,
  hypothesis: `${NAMES[store]} hangs (SIGSTOP): its connections stay open and nothing answers; ${WITHOUT[store]}.`,
  away: [store],
  measures: true,
  needs: [{ what: "freeze", part: store }],
  holdMs: 6_000,
  inject: ({ injector }) => injector.freeze(store),
  heal: ({ injector }) => injector.revive(store),
});

const cut = (store: Store): Experiment => ({
  name: `${store}-cut`,
  hypothesis: `The network between ${NAMES[store]} and the services swallows everything; ${WITHOUT[store]}.`,
  away: [store],
  measures: true,
  needs: [{ what: "cut", part: store }],
  holdMs: 7_000,
  inject: ({ injector }) => injector.cut(store),
  heal: ({ injector }) => injector.mend(store),
});

const slowed = (store: Store): Experiment => ({
  name: `${store}-slowed`,
  hypothesis: `Every message to and from ${NAMES[store]} takes 200 ms longer: who needs it is slow or says 503 in time, nobody else notices.`,
  away: [store],
  needs: [{ what: "slow", part: store }],
  holdMs: 6_000,
  inject: ({ injector }) => injector.slow(store, 200),
  heal: ({ injector }) => injector.mend(store),
});

/** Every store: killed, frozen, cut off, slowed. */
export const storeExperiments: Experiment[] = [killed, frozen, cut, slowed].flatMap((kind) => STORES.map(kind));
