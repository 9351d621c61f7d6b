import type { Store } from "../availability.ts";

/** The processes that are no store; where every role is a process (a Deployment) of its own. */
export const WORKERS = [
  "user-relay",
  "session-relay",
  "session-projector",
  "search-projector",
  "analytics-projector",
] as const;
export type WorkerPart = (typeof WORKERS)[number];
/** Second replicas of the projectors. */
export const REPLICAS = ["session-projector-2", "search-projector-2", "analytics-projector-2"] as const;
export const APIS = ["user", "session", "analytics", "search", "gateway"] as const;
export type Part = Store | WorkerPart | (typeof REPLICAS)[number] | (typeof APIS)[number];

/** What an injector may be unable to do where it stands. */
/** `alone`: the part can be broken without another that shares its process. */
export type Capability = "alone" | "freeze" | "cut" | "slow" | "rewind" | "restart-all" | "delete-consumer";

/** Does harm to a running system and mends it: one implementation for local processes, one for Kubernetes. Everything it does can be mended. */
export interface Injector {
  readonly kind: "local" | "kubernetes";
  /** Why it cannot do this to that part; undefined if it can. */
  cannot(what: Capability, part?: Part): Promise<string | undefined>;
  /** SIGKILL, without a chance to tidy up. With `hold` it stays down until `revive`; else whoever supervises it starts it again. */
  kill(part: Part, options?: { hold?: boolean }): Promise<void>;
  /** SIGSTOP: it keeps its connections and answers nothing. */
  freeze(part: Part): Promise<void>;
  /** Thaws what is frozen, lets go what is held down. */
  revive(part: Part): Promise<void>;
  /** Nothing gets through between a store and the services, in either direction; connections stay open. */
  cut(store: Store): Promise<void>;
  /** Everything between a store and the services takes this much longer, each way. */
  slow(store: Store, ms: number): Promise<void>;
  /** Ends `cut` and `slow`. */
  mend(store: Store): Promise<void>;
  /** Copies what NATS has on disk. */
  copyNats(): Promise<void>;
  /** While NATS is held down: puts that copy back, as if the machine had lost everything since. */
  rewindNats(): Promise<void>;
  /** Stops everything in order, starts it again, returns once it serves. */
  restartAll(): Promise<void>;
  /** Drops the relay's replication slot, by hand. */
  dropSlot(): Promise<void>;
  /** Deletes a durable consumer, by hand. */
  deleteConsumer(stream: string, durable: string): Promise<void>;
  /** Mends everything that is still broken. */
  mendAll(): Promise<void>;
}
