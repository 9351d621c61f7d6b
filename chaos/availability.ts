/** The five stores. */
export const STORES = ["postgres", "redis", "clickhouse", "elasticsearch", "nats"] as const;
export type Store = (typeof STORES)[number];

/** What an endpoint does while a store is away. */
export type Level = "full" | "degraded" | "503";

/**
 * The declared availability: what each endpoint does with each store away (killed, frozen or cut off). The suite measures it, and a difference is a
 * failure. `degraded`: it answers, and says what is missing. Not shown here: while PostgreSQL or NATS is away the derived answers stay
 * full and stand still; their `Quartet-As-Of` says since when.
 */
export const DECLARED = {
  "POST /v1/users": needs("postgres"),
  "GET /v1/users/:id": needs("postgres"),
  "GET /v1/users/:id (own token)": needs("postgres", "redis"),
  "PATCH /v1/users/:id": needs("postgres"),
  "PATCH /v1/users/:id (own token)": needs("postgres", "redis"),
  "DELETE /v1/users/:id": needs("postgres"),
  "GET /v1/erasures/:id": needs("postgres"),
  "POST /v1/sessions": needs("postgres", "redis"),
  "GET /v1/sessions/current": needs("redis"),
  "DELETE /v1/sessions/current": needs("redis"),
  "GET /v1/search": needs("elasticsearch"),
  "GET /v1/search/suggest": needs("elasticsearch"),
  "POST /v1/track": needs("nats"),
  "POST /v1/track (own token)": needs("nats", "redis"),
  "GET /v1/analytics/signups": needs("clickhouse"),
  "GET /v1/analytics/events": needs("clickhouse"),
  "GET /v1/analytics/funnel": needs("clickhouse"),
  "GET /v1/people/:id": {
    postgres: "degraded",
    redis: "degraded",
    clickhouse: "degraded",
    elasticsearch: "degraded",
    nats: "full",
  },
  "GET /v1/admin/status": {
    postgres: "degraded",
    redis: "degraded",
    clickhouse: "degraded",
    elasticsearch: "degraded",
    nats: "degraded",
  },
  "GET /healthz": needs(),
} as const satisfies Record<string, Record<Store, Level>>;

export type Endpoint = keyof typeof DECLARED;
export const ENDPOINTS = Object.keys(DECLARED) as Endpoint[];

function needs(...stores: Store[]): Record<Store, Level> {
  return Object.fromEntries(STORES.map((s) => [s, stores.includes(s) ? "503" : "full"])) as Record<Store, Level>;
}

/** Whether an endpoint is to answer (fully or degraded) while these stores are away. */
export function answersWithout(endpoint: Endpoint, away: readonly Store[]): boolean {
  return away.every((store) => DECLARED[endpoint][store] !== "503");
}
