import type { Redis } from "ioredis";
import { LeaseLostError, StoreError } from "../errors.ts";
import type { outboxKeys } from "./keys.ts";

export type OutboxKeys = ReturnType<typeof outboxKeys>;

const ACQUIRE = `
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local token = redis.call('INCR', KEYS[2]) .. ':' .. ARGV[1]
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token`;

/** First lines of every script that writes for the relay: a replica whose lease is gone writes nothing. */
export const GUARD = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
`;

const RENEW = `${GUARD}return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;
const RELEASE = `${GUARD}return redis.call('DEL', KEYS[1])`;

/** Runs a script of the relay. */
async function command(redis: Redis, script: string, keys: string[], args: (string | number)[]): Promise<unknown> {
  try {
    return await redis.eval(script, keys.length, ...keys, ...args);
  } catch (error) {
    throw new StoreError(`Redis: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * The right to relay, for a time. Its token is the fencing token: it contains a number that grows with every lease, and every write of the
 * relay is refused by Redis itself once the token is not the current one (decision 0002).
 */
export class Lease {
  readonly token: string;
  readonly #redis: Redis;
  readonly #keys: OutboxKeys;
  readonly #ms: number;
  #renewedAt: number;

  private constructor(redis: Redis, keys: OutboxKeys, token: string, ms: number, at: number) {
    this.#redis = redis;
    this.#keys = keys;
    this.token = token;
    this.#ms = ms;
    this.#renewedAt = at;
  }

  /** Undefined while another replica has it. */
  static async acquire(redis: Redis, keys: OutboxKeys, owner: string, ms: number): Promise<Lease | undefined> {
    const at = performance.now();
    const token = await command(redis, ACQUIRE, [keys.lease, keys.epoch], [owner, ms]);
    return typeof token === "string" ? new Lease(redis, keys, token, ms, at) : undefined;
  }

  /** Another replica may have it by now. */
  get expired(): boolean {
    return performance.now() - this.#renewedAt > this.#ms;
  }

  /** @throws LeaseLostError if another replica may have it by now */
  async renew(): Promise<void> {
    if (this.expired) throw new LeaseLostError("the lease could not be renewed in time");
    const at = performance.now();
    await this.run(RENEW, [], [this.#ms]);
    this.#renewedAt = at;
  }

  /**
   * Runs a script that starts with `GUARD`; its further keys begin at KEYS[2], its arguments at ARGV[2].
   * @throws LeaseLostError if another replica has the lease
   */
  async run(script: string, keys: string[], args: (string | number)[]): Promise<unknown> {
    const reply = await command(this.#redis, script, [this.#keys.lease, ...keys], [this.token, ...args]);
    if (reply === -1) throw new LeaseLostError("another replica has the lease");
    return reply;
  }

  async release(): Promise<void> {
    await this.run(RELEASE, [], []);
  }
}
