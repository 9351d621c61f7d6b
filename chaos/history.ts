import { appendFileSync, writeFileSync } from "node:fs";
import type { Endpoint } from "./availability.ts";

/** `unknown`: it may have happened, may not, and may happen later. A 4xx did not happen; a 5xx and no answer are unknown. */
export type Outcome = "ok" | "refused" | "unknown";

/** One request of the workload and what came of it. Times are ms since 1970 on the clock of the machine the suite runs on. */
export interface Op {
  client: string;
  endpoint: Endpoint;
  at: number;
  ms: number;
  /** HTTP status; 0 if there was no answer. */
  status: number;
  outcome: Outcome;
  /** It answered with less than it has when all is well (a part of a composed read is missing, a store is shown as down). */
  degraded?: boolean;
  /** `Quartet-As-Of` of the answer, ms since 1970. */
  asOf?: number;
  did: Did;
}

/** What every tracked event says beside its name. */
export const trackedProperties = { chaos: true };

/** What an operation was about: asked for, and seen. */
export type Did =
  /** `user` is absent while nobody knows whether it was made; `key` names the attempt, several attempts of one key make one user. */
  | { kind: "create"; key: string; handle: string; user?: string }
  /** With If-Match, so at most one change can make `revision`. */
  | { kind: "update"; user: string; revision: number; password?: true; keeps?: string; token?: string }
  | { kind: "erase"; user: string; erasure?: string }
  | { kind: "receipt"; user: string; erasure: string; complete?: boolean }
  | { kind: "login"; user: string; session?: string }
  /** Ends these sessions. */
  | { kind: "revoke"; user: string; sessions: string[] }
  /** A read with a session's token; `revision` as its copy of the profile shows it. */
  | { kind: "current"; user: string; session: string; revision?: number; after?: number; waited?: boolean }
  /** The events say nothing but their name and `trackedProperties`. */
  | { kind: "track"; name: string; ids: string[]; caller: string; user?: string }
  | { kind: "read"; user: string; found?: boolean; revision?: number }
  /** `after`: a revision whose consistency token was sent with it; `waited`: the answer says that it is in it. */
  | { kind: "search"; user: string; found?: boolean; revision?: number; after?: number; waited?: boolean }
  | { kind: "count"; name: string; total?: number }
  | { kind: "signups"; total?: number }
  | { kind: "probe" };

/** What happened, in order of completion; kept in memory and, if a file is given, as JSON lines. */
export class History {
  readonly ops: Op[] = [];
  readonly #file: string | undefined;
  #pending: string[] = [];

  constructor(file?: string) {
    this.#file = file;
    if (file) writeFileSync(file, "");
  }

  add(op: Op): void {
    this.ops.push(op);
    if (!this.#file) return;
    this.#pending.push(JSON.stringify(op));
    if (this.#pending.length >= 1000) this.flush();
  }

  flush(): void {
    if (!this.#file || this.#pending.length === 0) return;
    appendFileSync(this.#file, `${this.#pending.join("\n")}\n`);
    this.#pending = [];
  }
}
