import { createDependency, type Dependency, HttpProblem, type Logger, unavailable } from "@quartet/service";
import pg from "pg";

/** What a statement runs on: a connection of the pool, in a transaction or not. */
export type Queryable = Pick<pg.ClientBase, "query">;

export interface DatabaseOptions {
  url: string;
  logger: Logger;
  /** Connections at most. Default 12. */
  connections?: number;
  /** Longest time of one operation, from asking for a connection to the COMMIT. Default 1000 ms. */
  timeoutMs?: number;
}

/** Classes of SQLSTATE that say that the server, not the statement, is broken: connection, resources, operator's intervention, I/O. */
const FAULTS = /^(08|53|57|58|F0|XX)/;
/** Raised where two transactions met; the whole transaction is worth another try. */
const COLLISIONS = new Set(["40001", "40P01"]);

/** int8 as a number: counters and versions stay below 2^53. */
const types = {
  getTypeParser(oid: number, format?: "text" | "binary") {
    if (oid === pg.types.builtins.INT8) return Number;
    return pg.types.getTypeParser(oid, format as "text");
  },
};

/** The SQLSTATE of an error, or undefined. */
function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/** The unique constraint an error is about, or undefined. */
export function violatedConstraint(error: unknown): string | undefined {
  return sqlState(error) === "23505" ? ((error as pg.DatabaseError).constraint ?? "") : undefined;
}

/** An answer of the store that is not the one hoped for: the server works, the caller has to be told. */
export class Refusal extends Error {
  override name = "Refusal";
}

function isFault(error: unknown): boolean {
  if (error instanceof HttpProblem || error instanceof Refusal) return false;
  if (error instanceof TypeError || error instanceof RangeError) return false;
  const state = sqlState(error);
  // Without a SQLSTATE it came from the socket or the pool; with 25006 from a server that was demoted.
  return state === undefined || FAULTS.test(state) || state === "25006";
}

/**
 * PostgreSQL behind a deadline and a breaker. A connection whose operation ran out of time is destroyed, not returned: a frozen server cannot
 * drain the pool, and what it may still do with the statement is unknown to us, so the caller is told 503, never success.
 */
export class Database {
  readonly pool: pg.Pool;
  readonly dependency: Dependency;
  readonly url: string;
  #ready = false;

  constructor(options: DatabaseOptions) {
    const timeoutMs = options.timeoutMs ?? 1000;
    this.url = options.url;
    this.pool = new pg.Pool({
      connectionString: options.url,
      application_name: "quartet-user",
      max: options.connections ?? 12,
      connectionTimeoutMillis: Math.round(timeoutMs * 0.8),
      idleTimeoutMillis: 30_000,
      keepAlive: true,
      // The server gives up a little after us, so that nothing of ours goes on unwatched.
      statement_timeout: 5000,
      lock_timeout: Math.round(timeoutMs * 0.9),
      idle_in_transaction_session_timeout: 10_000,
      options: "-c client_connection_check_interval=2000",
      types,
    });
    // The pool listens only while a connection is idle; one that breaks in use must not end the process. Its query rejects all the same.
    this.pool.on("connect", (client) => client.on("error", () => {}));
    this.pool.on("error", (error) =>
      options.logger.debug({ reason: error.message }, "idle PostgreSQL connection lost"),
    );
    this.dependency = createDependency("postgres", { timeoutMs, isFault });
  }

  /** True once the schema is there. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Opens the gate: until the migrations ran, every operation is a 503. */
  opened(): void {
    this.#ready = true;
  }

  /** One or several statements outside a transaction. Throws `unavailable("postgres")` if the server does not answer in time. */
  run<T>(fn: (client: Queryable) => Promise<T>, options: { timeoutMs?: number } = {}): Promise<T> {
    return this.#guarded((signal) => this.#connected(signal, fn), options);
  }

  /**
   * A transaction, read committed. Tried again when it collided with another (deadlock). A COMMIT whose outcome is not known is
   * `unavailable("postgres")`.
   */
  transaction<T>(fn: (client: Queryable) => Promise<T>, options: { timeoutMs?: number } = {}): Promise<T> {
    return this.#guarded(async (signal) => {
      for (let attempt = 1; ; attempt++) {
        try {
          return await this.#connected(signal, (client) => inTransaction(client, fn, signal));
        } catch (error) {
          if (!COLLISIONS.has(sqlState(error) ?? "") || signal.aborted) throw error;
          if (attempt >= 5) throw unavailable("postgres", 1, error);
        }
      }
    }, options);
  }

  async #guarded<T>(fn: (signal: AbortSignal) => Promise<T>, options: { timeoutMs?: number }): Promise<T> {
    if (!this.#ready) throw unavailable("postgres", 1, new Error("the schema is not there yet"));
    return this.dependency.run(async (signal) => {
      try {
        return await fn(signal);
      } catch (error) {
        // Somebody else held the row for too long: busy, not broken.
        if (sqlState(error) === "55P03") throw unavailable("postgres", 1, error);
        throw error;
      }
    }, options);
  }

  async #connected<T>(signal: AbortSignal, fn: (client: Queryable) => Promise<T>): Promise<T> {
    const client = await this.pool.connect();
    let released = false;
    const release = (broken: boolean): void => {
      if (released) return;
      released = true;
      client.release(broken);
    };
    const onAbort = (): void => release(true);
    if (signal.aborted) {
      release(false);
      throw signal.reason;
    }
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const result = await fn(client);
      release(false);
      return result;
    } catch (error) {
      release(isFault(error) || (error as { dirty?: boolean } | null)?.dirty === true);
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  async close(): Promise<void> {
    this.dependency.close();
    await this.pool.end();
  }
}

async function inTransaction<T>(
  client: Queryable,
  fn: (client: Queryable) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  await client.query("BEGIN");
  let result: T;
  try {
    result = await fn(client);
    signal.throwIfAborted();
  } catch (error) {
    await client.query("ROLLBACK").catch(() => {
      if (typeof error === "object" && error !== null) Object.assign(error, { dirty: true });
    });
    throw error;
  }
  const { command } = await client.query("COMMIT");
  // The server answers ROLLBACK to a COMMIT of a transaction that had failed.
  if (command !== "COMMIT") throw new Error(`the transaction ended with ${command}`);
  return result;
}
