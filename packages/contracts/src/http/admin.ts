import { z } from "zod";
import { trackedEvent } from "./analytics.ts";
import * as f from "./fields.ts";
import { suggestion } from "./search.ts";
import { userBody } from "./users.ts";

/** One person of an import. An invalid email or a taken one is left out, never an error; the rest is held to the usual limits. */
export const importedUser = z.strictObject({
  key: f.anyText(0, 320),
  email: z.string().nullish(),
  handle: f.handle.optional(),
  displayName: f.displayName,
  bio: f.bio.optional(),
  country: f.country.nullable().optional(),
  tags: f.tags.optional(),
});
export type ImportedUser = z.infer<typeof importedUser>;

/** An event of an import; `userKey` names a person of this or an earlier import. */
export const importedEvent = f.documentAs(
  trackedEvent.extend({ userKey: f.anyText(0, 320).optional() }).superRefine((event, ctx) => {
    if (!event.userId || event.userKey === undefined) return;
    for (const path of ["userId", "userKey"])
      ctx.addIssue({ code: "custom", path: [path], message: "give userId or userKey, not both" });
  }),
  (event) => {
    const { userKey, ...properties } = event.properties as Record<string, object>;
    return {
      anyOf: [
        { ...event, properties },
        { ...event, properties: { ...properties, userId: { type: "null" }, userKey }, required: ["name", "userKey"] },
      ],
    };
  },
);
export type ImportedEvent = z.infer<typeof importedEvent>;

export const importBody = z.strictObject({
  users: z.array(importedUser).max(1000, "at most 1000 users").default([]),
  events: z.array(importedEvent).max(5000, "at most 5000 events").default([]),
});
export type ImportBody = z.infer<typeof importBody>;

export const importedBody = z.object({
  users: z.array(
    z.object({
      key: z.string(),
      id: z.uuid(),
      revision: z.number().int(),
      outcome: z.enum(["created", "updated", "unchanged"]),
    }),
  ),
  accepted: z.number().int(),
});
export type ImportedBody = z.infer<typeof importedBody>;

const count = z.number().int();
export const statusBody = z.object({
  services: z.record(z.string(), z.object({ up: z.boolean() })),
  stores: z.object({
    postgres: z.object({ up: z.boolean(), users: count.optional() }),
    redis: z.object({ up: z.boolean(), sessions: count.optional(), profiles: count.optional() }),
    clickhouse: z.object({ up: z.boolean(), facts: count.optional() }),
    elasticsearch: z.object({ up: z.boolean(), documents: count.optional() }),
    nats: z.object({ up: z.boolean() }),
  }),
  streams: z.record(z.string(), z.object({ messages: count })),
  projectors: z.record(
    z.string(),
    z.object({
      asOf: z.iso.datetime().nullable(),
      stalenessSeconds: z.number().nullable(),
      lag: count.nullable(),
      deadLetters: count.nullable(),
    }),
  ),
  relays: z.record(z.string(), z.object({ lagBytes: count.nullable(), lagSeconds: z.number().nullable() })),
  audit: z.object({ drift: count.nullable(), checkedAt: z.iso.datetime().nullable() }),
});
export type StatusBody = z.infer<typeof statusBody>;

/** What each service answers to GET /internal/status; the gateway folds them into one. */
export interface ServiceStatus {
  store: { up: boolean; [count: string]: number | boolean | undefined };
  nats?: { up: boolean };
  streams?: Record<string, { messages: number }>;
  projectors?: StatusBody["projectors"];
  relays?: StatusBody["relays"];
  audit?: StatusBody["audit"];
}

/** The stores that are derived from the log and can be filled anew from it. */
export const rebuildable = z.enum(["search", "session", "analytics"]);
export const rebuildBody = z.strictObject({ store: rebuildable });
export const rebuildState = z.object({
  store: rebuildable,
  /** `none`: this store was never rebuilt. */
  state: z.enum(["none", "running", "complete"]),
  /** Messages of the stream that are replayed, of how many. */
  done: count,
  total: count,
  startedAt: z.iso.datetime().nullable(),
  finishedAt: z.iso.datetime().nullable(),
});
export type RebuildState = z.infer<typeof rebuildState>;
export const rebuildList = z.object({ rebuilds: z.array(rebuildState), missing: z.array(rebuildable) });

/** What the last audit of one store found. */
export const auditFinding = z.object({
  store: rebuildable,
  /** Users compared; of analytics, facts. */
  compared: count,
  drift: count,
  mended: count,
  /** Whose data drifted, at most 1,000; null: nobody's. */
  users: z.array(z.object({ id: z.string().nullable(), kind: z.string() })),
  startedAt: z.iso.datetime(),
  checkedAt: z.iso.datetime(),
});
export type AuditFindingBody = z.infer<typeof auditFinding>;
export const auditList = z.object({ audits: z.array(auditFinding), missing: z.array(rebuildable) });
/** From when on a finding is an answer to this request, by store. */
export const auditRequested = z.object({
  requested: z.record(z.string(), z.iso.datetime()),
  missing: z.array(rebuildable),
});

export const personBody = z.object({
  id: z.uuid(),
  user: userBody.optional(),
  presence: z.object({ activeSessions: count, lastSeenAt: z.iso.datetime().nullable() }).optional(),
  activity: z
    .object({ events: count, lastEventAt: z.iso.datetime().nullable(), byName: z.record(z.string(), count) })
    .optional(),
  similar: z.array(suggestion).optional(),
  missing: z.array(z.enum(["user", "session", "analytics", "search"])),
});

export const deadLetter = z.object({
  seq: count,
  at: z.iso.datetime(),
  consumer: z.string(),
  reason: z.string(),
  stream: z.string(),
  subject: z.string(),
  sequence: count,
  payload: z.string(),
});
export type DeadLetter = z.infer<typeof deadLetter>;
/** A page of the dead letters: those behind `after`. */
export const deadLettersQuery = z.object({
  limit: f.wholeNumber(1, 1000, 100),
  after: f.wholeNumber(0, Number.MAX_SAFE_INTEGER, 0),
});
export const deadLetterList = z.object({ deadLetters: z.array(deadLetter), next: count.optional() });

export const problemBody = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  detail: z.string().optional(),
  instance: z.string().optional(),
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
});
