import { availableParallelism } from "node:os";
import { hash, verify } from "@node-rs/argon2";
import { createFairQueue, type FairQueue, metrics, type Turn } from "@quartet/service";

/** argon2id (2 is its number in the library's enum), 19 MiB, two passes, one lane: the first choice of OWASP's password storage page. */
const PARAMETERS = { algorithm: 2, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

export interface HasherOptions {
  /** Hashes computed at once. Default: one fewer than the processors, so that all else has one left; at least 1, at most 4 (libuv's threads). */
  concurrency?: number;
  /** Hashes of one client that may wait; more are turned away with 429. Default 32. */
  perClient?: number;
  /** Hashes that may wait in all; beyond it the newest of the client with the most is turned away with 503. Default 128. */
  total?: number;
  /** Longest wait in the queue. Default 1200 ms: within the 1.8 s that the gateway has. */
  waitMs?: number;
}

/**
 * Password hashing in a bounded queue that is fair by client: each costs about 15 ms of a processor, so a flood of sign-ups and logins must not become
 * a flood of waiting, and one client's must not become everybody's.
 */
export class PasswordHasher {
  readonly #queue: FairQueue;
  readonly #decoy: Promise<string>;

  constructor(options: HasherOptions = {}) {
    const queue = createFairQueue({
      name: "password hashing",
      slots: options.concurrency ?? Math.min(4, Math.max(1, availableParallelism() - 1)),
      perClient: options.perClient ?? 32,
      total: options.total ?? 128,
      waitMs: options.waitMs ?? 1200,
    });
    this.#queue = queue;
    this.#decoy = hash("a password that nobody has", PARAMETERS);
    metrics.gauge("quartet_password_queue", (gauge) => gauge.set(queue.waiting));
  }

  /** Throws 429 or 503 if too many wait, ClientGone if nobody does any more. */
  hash(password: string, turn: Turn): Promise<string> {
    return this.#queue.run(turn, () => hash(password, PARAMETERS));
  }

  /**
   * Whether the password is the one of the hash. Without a hash (no such user, or one without a password) the same work is done in vain, so that
   * time does not tell which it was. Throws as `hash` does.
   */
  async verify(passwordHash: string | null | undefined, password: string, turn: Turn): Promise<boolean> {
    const against = passwordHash ?? (await this.#decoy);
    const right = await this.#queue.run(turn, () => verify(against, password).catch(() => false));
    return right && passwordHash != null;
  }
}
