import { z } from "zod";
import { anyText, documentAs, instant, occurredAt, userIdField, wholeNumber, withExamples } from "./fields.ts";

const eventName = z.string().regex(/^[a-z][a-z0-9_.]{0,63}$/, "must match [a-z][a-z0-9_.]{0,63}");
const propertyKey = z.string().regex(/^[a-z][a-z0-9_]{0,63}$/, "must match [a-z][a-z0-9_]{0,63}");
/** Numbers that a double holds exactly, as every body parser of ours demands (RFC 7493). */
const property = z.union(
  [anyText(0, 512), z.number().min(Number.MIN_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER), z.boolean(), z.null()],
  "must be a string up to 512 characters, a number up to 2^53 - 1, a boolean or null",
);

export const trackedEvent = z.strictObject({
  id: z
    .string()
    .regex(/^[\x21-\x7e]{1,128}$/, "must be 1 to 128 visible ASCII characters")
    .optional(),
  name: eventName,
  occurredAt: occurredAt.optional(),
  userId: userIdField.nullish(),
  properties: z
    .record(propertyKey, property)
    .refine((p) => Object.keys(p).length <= 32, "at most 32 properties")
    .meta({ maxProperties: 32 })
    .optional(),
});
export type TrackedEvent = z.infer<typeof trackedEvent>;

export const trackBody = z.strictObject({ events: z.array(trackedEvent).min(1).max(1000) });
export const tracked = z.object({ accepted: z.number().int() });

const range = {
  from: withExamples(instant.optional(), "2026-01-01"),
  to: withExamples(instant.optional(), "2026-02-01T00:00:00Z"),
};
const intervals = (...allowed: ("hour" | "day" | "week" | "month")[]) =>
  z.enum(allowed, `must be one of ${allowed.join(", ")}`).default("day");

/** Up to how many points a series may have. */
export const MAX_POINTS = 5000;

export const signupsQuery = z.object({ ...range, interval: intervals("hour", "day", "week", "month") });
export const eventsQuery = z.object({ name: eventName, ...range, interval: intervals("hour", "day", "week", "month") });
export const activeUsersQuery = z.object({ ...range, interval: intervals("day", "week", "month") });
export const sessionsQuery = z.object(range);
export const retentionQuery = z.object({
  ...range,
  cohort: z.enum(["day", "week", "month"], "must be one of day, week, month").default("week"),
  periods: wholeNumber(1, 52, 8),
});
/** At most 366 days, in any unit. */
const WITHIN =
  /^(?:[1-9][0-9]{0,5}s|(?:[1-9][0-9]{0,4}|[1-4][0-9]{5}|5[01][0-9]{4}|52[0-6][0-9]{3}|5270[0-3][0-9]|527040)m|(?:[1-9][0-9]{0,2}|[1-7][0-9]{3}|8[0-6][0-9]{2}|87[0-7][0-9]|878[0-4])h|(?:[1-9][0-9]?|[12][0-9]{2}|3[0-5][0-9]|36[0-6])d|(?:[1-9]|[1-4][0-9]|5[0-2])w)$/;
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

export const funnelQuery = z.object({
  steps: documentAs(
    z
      .string()
      .transform((s) => s.split(","))
      .pipe(z.array(eventName).min(2, "2 to 10 steps").max(10, "2 to 10 steps")),
    { type: "string", pattern: "^[a-z][a-z0-9_.]{0,63}(?:,[a-z][a-z0-9_.]{0,63}){1,9}$" },
  ),
  within: documentAs(
    z
      .string()
      .regex(WITHIN, "must be a duration such as 30m, 24h or 7d, of at most a year")
      .transform((s) => Number(s.slice(0, -1)) * SECONDS[s.slice(-1) as keyof typeof SECONDS])
      .default(7 * SECONDS.d),
    { type: "string", pattern: WITHIN.source, default: "7d" },
  ),
  ...range,
});
export const topQuery = z.object({ name: eventName, property: propertyKey, ...range, limit: wholeNumber(1, 100, 10) });

const at = z.iso.datetime();
export const seriesBody = z.object({
  series: z.array(z.object({ at, count: z.number().int() })),
  total: z.number().int(),
});
export const activeUsersBody = z.object({ series: z.array(z.object({ at, users: z.number().int() })) });
export const sessionsStatsBody = z.object({
  started: z.number().int(),
  ended: z.object({
    logout: z.number().int(),
    revoked: z.number().int(),
    expired: z.number().int(),
    erased: z.number().int(),
  }),
  durationSeconds: z.object({ p50: z.number().nullable(), p95: z.number().nullable(), p99: z.number().nullable() }),
});
export const retentionBody = z.object({
  cohorts: z.array(z.object({ at, size: z.number().int(), active: z.array(z.number().int()) })),
});
export const funnelBody = z.object({ steps: z.array(z.object({ name: z.string(), users: z.number().int() })) });
export const topBody = z.object({
  values: z.array(
    z.object({ value: z.union([z.string(), z.number(), z.boolean(), z.null()]), count: z.number().int() }),
  ),
});
