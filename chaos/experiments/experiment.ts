import type { Store } from "../availability.ts";
import type { Capability, Injector, Part } from "../inject/injector.ts";
import type { Random } from "../random.ts";

/** What an experiment may use. */
export interface Lab {
  injector: Injector;
  random: Random;
  /** Ends when the run is given up. */
  signal: AbortSignal;
  /** Waits while the load goes on. */
  wait(ms: number): Promise<void>;
  /** From now on it is broken: for an experiment that has something to prepare first. */
  begins(): void;
  /** Lets the workload finish what it is at and begin nothing new; it goes on after the check. */
  quiet(): Promise<void>;
  /** Tracked events acknowledged between these moments (ms since 1970) may be lost: they have no outbox. */
  mayLoseTracks(from: number, to: number): void;
}

/**
 * One experiment: while the load goes on and all is well, `inject` breaks something, `holdMs` later `heal` mends it, the system converges, and the checker
 * decides every invariant. Bounded in time: the runner gives each step a deadline.
 */
export interface Experiment {
  name: string;
  /** What should be true while it is broken, for a reader of the report; the invariants say what is checked. */
  hypothesis: string;
  /** Stores that do not answer, or not in time: endpoints that need them are excused. */
  away: Store[];
  /** They answer nothing at all between injection and healing: the availability matrix is measured by it. */
  measures?: true;
  /** Nothing at all is there meanwhile, the gateway included: no endpoint is held to answer. */
  total?: true;
  /** What the injector must be able to do. */
  needs?: { what: Capability; part?: Part }[];
  holdMs: number;
  inject(lab: Lab): Promise<void>;
  heal(lab: Lab): Promise<void>;
}

export const NAMES: Record<Store, string> = {
  postgres: "PostgreSQL",
  redis: "Redis",
  clickhouse: "ClickHouse",
  elasticsearch: "Elasticsearch",
  nats: "NATS",
};
