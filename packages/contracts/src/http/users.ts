import { z } from "zod";
import * as f from "./fields.ts";

export const signUpBody = z.strictObject({
  email: f.email,
  password: f.password,
  handle: f.handle,
  displayName: f.displayName,
  bio: f.bio.default(""),
  country: f.country.nullish().transform((v) => v ?? null),
  tags: f.tags.default([]),
});
export type SignUpBody = z.infer<typeof signUpBody>;

export const patchUserBody = z
  .strictObject({
    email: f.email,
    password: f.password,
    /** Needed with `password` and `email` by whoever is not the operator; the length is a log-in's. */
    currentPassword: f.anyText(1, 1024),
    handle: f.handle,
    displayName: f.displayName,
    bio: f.bio,
    country: f.country.nullable(),
    tags: f.tags,
  })
  .partial()
  .refine(
    ({ currentPassword: _, ...change }) => Object.values(change).some((v) => v !== undefined),
    "at least one field to change is needed",
  )
  .meta({ minProperties: 1, not: { required: ["currentPassword"], maxProperties: 1 } });
export type PatchUserBody = z.infer<typeof patchUserBody>;

/** A user as everybody sees it; `email` only with the user's own or the operator's token. */
export const userBody = z.object({
  id: z.uuid(),
  email: z.string().optional(),
  handle: z.string(),
  displayName: z.string(),
  bio: z.string(),
  country: z.string().nullable(),
  tags: z.array(z.string()),
  revision: z.number().int(),
  createdAt: z.iso.datetime(),
  updatedAt: z.iso.datetime(),
});
export type UserBody = z.infer<typeof userBody>;

const storeReceipt = z.object({ state: z.enum(["pending", "complete"]), confirmedAt: z.iso.datetime().optional() });
export const erasureBody = z.object({
  id: z.string(),
  state: z.enum(["pending", "complete"]),
  requestedAt: z.iso.datetime(),
  completedAt: z.iso.datetime().optional(),
  stores: z.object({ user: storeReceipt, session: storeReceipt, analytics: storeReceipt, search: storeReceipt }),
  backups: z
    .object({ goneBy: z.iso.datetime().nullable() })
    .describe(
      "By when the last backup that holds the person is deleted. Null while the erasure is pending, and where Quartet makes no backups",
    ),
});
export type ErasureBody = z.infer<typeof erasureBody>;
export const erasureAccepted = z.object({ erasureId: z.string() });
