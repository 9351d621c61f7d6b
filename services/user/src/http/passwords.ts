import { cpus } from "node:os";
import { hash, verify } from "@node-rs/argon2";
import { type HttpProblem, metrics, unavailable } from "@quartet/service";

/** argon2id (2 is its number in the library's enum), 19 MiB, two passes, one lane: the first choice of OWASP's password storage page. */
const PARAMETERS = { algorithm: 2, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

export interface HasherOptions {
  /** Hashes computed at once. Default: the number of processors, at most 4 (libuv's threads). */
  concurrency?: number;
  /** Hashes that may wait; more are turned away with 503. Default 64. */
  queue?: number;
  /** Longest wait in the queue. Default 700 ms. */
  waitMs?: number;
}

/** Password hashing with a bounded queue: each costs about 15 ms of a processor, so a flood of sign-ups and logins must not become a flood of waiting. */
export class PasswordHasher {
  readonly #free: { slots: number };
  readonly #waiting: (() => void)[] = [];
  readonly #queue: number;
  readonly #waitMs: number;
  readonly #decoy: Promise<string>;

  constructor(options: HasherOptions = {}) {
    this.#free = { slots: options.concurrency ?? Math.min(4, cpus().length) };
    this.#queue = options.queue ?? 64;
    this.#waitMs = options.waitMs ?? 700;
    this.#decoy = hash("a password that nobody has", PARAMETERS);
    const waiting = this.#waiting;
    metrics.gauge("quartet_password_queue", (gauge) => gauge.set(waiting.length));
  }

  /** Throws `unavailable` if too many wait. */
  hash(password: string): Promise<string> {
    return this.#inTurn(() => hash(password, PARAMETERS));
  }

  /**
   * Whether the password is the one of the hash. Without a hash (no such user, or one without a password) the same work is done in vain, so that
   * time does not tell which it was.
   */
  async verify(passwordHash: string | null | undefined, password: string): Promise<boolean> {
    const against = passwordHash ?? (await this.#decoy);
    const right = await this.#inTurn(() => verify(against, password).catch(() => false));
    return right && passwordHash != null;
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free.slots > 0) this.#free.slots--;
    else await this.#turn();
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free.slots++;
    }
  }

  #turn(): Promise<void> {
    if (this.#waiting.length >= this.#queue) throw busy();
    return new Promise((resolve, reject) => {
      const start = (): void => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(start), 1);
        reject(busy());
      }, this.#waitMs);
      this.#waiting.push(start);
    });
  }
}

function busy(): HttpProblem {
  return unavailable("password hashing", 1);
}
