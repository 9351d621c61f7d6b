import type { Store } from "../availability.ts";
import type { Op } from "../history.ts";
import type { StoreContents } from "../stores/stores.ts";
import type { Window } from "./facts.ts";

/** What was read after the system had converged. */
export interface Final {
  /** When the workload had ended, ms since 1970. */
  pausedAt: number;
  /** It said that everything before `pausedAt` is in all its answers, and that every erasure is complete. Else why not. */
  converged: true | string;
  /** `GET /v1/users/:id`; null: 404. */
  users: Map<string, number | null>;
  /** Everybody search shows, by browsing: the revision their display name carries. */
  search: Map<string, number | undefined>;
  /** `GET /v1/sessions/current` with each token: the status. */
  sessions: Map<string, number>;
  /** Totals of tracked events by name, and of sign-ups. */
  counts: Record<string, number>;
  signups: number;
  deadLetters: number;
  /** Read from the stores themselves; absent where that is not possible. */
  stores?: StoreContents;
}

/** What broke and for how long. */
export interface FaultWindow extends Window {
  experiment: string;
  /** Stores that were away or slow between `from` and `to`. */
  away: Store[];
  /** Nothing was there, not even the gateway. */
  total?: true;
  /** Until then the load went on: the recovery counts for those who do not need the store. */
  until: number;
}

export interface Evidence {
  ops: readonly Op[];
  faults: readonly FaultWindow[];
  /** Between these, acknowledged tracked events may be lost. */
  exempt: readonly Window[];
  final: Final;
  /** Totals before the workload began. */
  baseline: { counts: Record<string, number>; signups: number };
  /** The system is nobody else's: what is not explained by the history is wrong. */
  alone: boolean;
}

export interface Verdict {
  invariant: string;
  says: string;
  /** How many facts were compared. */
  checked: number;
  violations: string[];
  /** Violations that were seen and do not count: the run was asked not to judge by the clock. */
  notJudged?: string[];
}

/** Collects the violations of one invariant, the first fifty in words. */
export class Judge {
  readonly #invariant: string;
  readonly #says: string;
  readonly #violations: string[] = [];
  #more = 0;
  #checked = 0;

  constructor(invariant: string, says: string) {
    this.#invariant = invariant;
    this.#says = says;
  }

  check(holds: boolean, otherwise: () => string): void {
    this.#checked++;
    if (holds) return;
    if (this.#violations.length < 50) this.#violations.push(otherwise());
    else this.#more++;
  }

  verdict(): Verdict {
    const violations = this.#more > 0 ? [...this.#violations, `... and ${this.#more} more`] : this.#violations;
    return { invariant: this.#invariant, says: this.#says, checked: this.#checked, violations };
  }
}
