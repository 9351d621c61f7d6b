import { canonicalAddress, type Identity, metrics, tooManyRequests } from "@quartet/service";
import type { Request, Response } from "express";
import { type IncrementResponse, type Options, rateLimit, type Store } from "express-rate-limit";
import { LRUCache } from "lru-cache";
import { z } from "zod";

/** Kinds of requests that are counted apart. */
export const limitGroups = ["sign-up", "login", "track", "search", "analytics", "other"] as const;
export type LimitGroup = (typeof limitGroups)[number];

interface Rate {
  requests: number;
  seconds: number;
}

const rate = (fallback: string) =>
  z
    .string()
    .regex(/^[1-9]\d{0,6}\/[1-9]\d{0,4}$/, "must be REQUESTS/SECONDS")
    .default(fallback)
    .transform((text): Rate => {
      const [requests = 0, seconds = 0] = text.split("/").map(Number);
      return { requests, seconds };
    });

/** What one client may ask for. Far above what a person does in a browser, and below what a single script does to the stores. */
export const limitsConfig = {
  RATE_LIMITS: z.enum(["on", "off"]).default("on"),
  /** `limited`: whoever has the operator's token is counted like everybody. */
  RATE_LIMIT_OPERATOR: z.enum(["exempt", "limited"]).default("exempt"),
  /** Clients, and as many principals, that are remembered per group and process; whoever was not seen for longest is forgotten first. */
  RATE_LIMIT_CLIENTS: z.coerce.number().int().min(100).max(1_000_000).default(10_000),
  RATE_LIMIT_SIGN_UP: rate("60/60"),
  RATE_LIMIT_LOGIN: rate("120/60"),
  RATE_LIMIT_TRACK: rate("600/10"),
  RATE_LIMIT_SEARCH: rate("600/10"),
  RATE_LIMIT_ANALYTICS: rate("300/10"),
  RATE_LIMIT_OTHER: rate("1200/10"),
};
const schema = z.object(limitsConfig);
type LimitsConfig = z.infer<typeof schema>;

/** Which group a request belongs to; undefined for pages, health and what is not there. */
export function groupOf(method: string, path: string): LimitGroup | undefined {
  if (!path.startsWith("/v1/")) return undefined;
  if (method === "POST" && path === "/v1/users") return "sign-up";
  if (method === "POST" && path === "/v1/sessions") return "login";
  if (path === "/v1/track") return "track";
  if (path.startsWith("/v1/analytics/")) return "analytics";
  return path === "/v1/search" || path.startsWith("/v1/search/") || path.startsWith("/v1/people/") ? "search" : "other";
}

export interface Limits {
  /** Counts a request against its client's address, before anything of it is looked at. Rejects with 429. */
  byClient(req: Request, res: Response): Promise<void>;
  /** Counts it against the person whose token it carries. Rejects with 429. */
  byPrincipal(req: Request, res: Response, identity: Identity): Promise<void>;
}

/**
 * Rates per client address and per principal (express-rate-limit, fixed windows, a store per process that is bounded by count). Both answer with the
 * standard `RateLimit` and `RateLimit-Policy` headers. `isOperator` tells without asking anybody.
 */
export function createLimits(config: LimitsConfig, isOperator: (req: Request) => boolean): Limits {
  const rates: Record<LimitGroup, Rate> = {
    "sign-up": config.RATE_LIMIT_SIGN_UP,
    login: config.RATE_LIMIT_LOGIN,
    track: config.RATE_LIMIT_TRACK,
    search: config.RATE_LIMIT_SEARCH,
    analytics: config.RATE_LIMIT_ANALYTICS,
    other: config.RATE_LIMIT_OTHER,
  };
  const refused = metrics.counter("quartet_rate_limited_total");
  const free = (req: Request) =>
    config.RATE_LIMITS === "off" || (config.RATE_LIMIT_OPERATOR === "exempt" && isOperator(req));
  const principals = new WeakMap<Request, string>();

  const limiters = (kind: "client" | "principal", keyOf: (req: Request) => string) =>
    Object.fromEntries(
      limitGroups.map((group) => {
        const { requests, seconds } = rates[group];
        const limiter = rateLimit({
          windowMs: seconds * 1000,
          limit: requests,
          standardHeaders: "draft-8",
          legacyHeaders: false,
          identifier: `${group}-by-${kind}`,
          keyGenerator: keyOf,
          store: new BoundedStore(config.RATE_LIMIT_CLIENTS),
          handler: (req, _res, next) => {
            refused.inc({ group, kind });
            const { resetTime } = (req as Request & { rateLimit: { resetTime?: Date } }).rateLimit;
            const left = Math.ceil(((resetTime?.getTime() ?? 0) - Date.now()) / 1000);
            next(tooManyRequests(Math.max(1, left), `at most ${requests} of this kind in ${seconds} s; wait a little`));
          },
          // Its checks are of its own reading of addresses, which is not used here.
          validate: false,
        });
        const count = (req: Request, res: Response): Promise<void> =>
          new Promise((resolve, reject) => {
            void limiter(req, res, (error?: unknown) => (error ? reject(error) : resolve()));
          });
        return [group, count];
      }),
    ) as Record<LimitGroup, (req: Request, res: Response) => Promise<void>>;

  const clients = limiters("client", (req) => canonicalAddress(req.ip));
  const people = limiters("principal", (req) => principals.get(req) ?? "");

  return {
    async byClient(req, res) {
      const group = groupOf(req.method, req.path);
      if (group && !free(req)) await clients[group](req, res);
    },
    async byPrincipal(req, res, identity) {
      const group = groupOf(req.method, req.path);
      if (!group || identity.kind !== "user" || config.RATE_LIMITS === "off") return;
      principals.set(req, identity.userId);
      await people[group](req, res);
    },
  };
}

/** Hits in the current window of each key. The library's own store keeps every key until its window is over, however many there are. */
class BoundedStore implements Store {
  readonly localKeys = true;
  readonly #hits: LRUCache<string, { totalHits: number; resetTime: Date }>;
  #windowMs = 0;

  constructor(most: number) {
    this.#hits = new LRUCache({ max: most });
  }

  init({ windowMs }: Options): void {
    this.#windowMs = windowMs;
  }

  increment(key: string): IncrementResponse {
    const now = Date.now();
    let window = this.#hits.get(key);
    if (!window || window.resetTime.getTime() <= now) {
      window = { totalHits: 0, resetTime: new Date(now + this.#windowMs) };
      this.#hits.set(key, window);
    }
    window.totalHits++;
    return window;
  }

  decrement(key: string): void {
    const window = this.#hits.get(key);
    if (window) window.totalHits--;
  }

  resetKey(key: string): void {
    this.#hits.delete(key);
  }
}
