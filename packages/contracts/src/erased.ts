import { createHash } from "node:crypto";
import { z } from "zod";

const time = z.iso.datetime({ offset: true });

/**
 * Who was erased, as Analytics and the files beside the dumps remember it: by SHA-256 of the id in hex, with the receipt. `receipt` is null where only
 * the fact is known.
 */
export const erasedPerson = z.strictObject({
  hash: z.string().regex(/^[0-9a-f]{64}$/, "must be 64 hex digits"),
  receipt: z
    .strictObject({
      id: z.string().regex(/^[A-Za-z0-9_-]{43}$/, "must be the id of an erasure"),
      requestedAt: time,
      sessionAt: time.nullable(),
      searchAt: time.nullable(),
      analyticsAt: time.nullable(),
      completedAt: time.nullable(),
      goneBy: time.nullable(),
    })
    .nullable(),
});
export type ErasedPerson = z.infer<typeof erasedPerson>;

/** How a person who was erased is named outside the log: the SHA-256 of the id, in hex. The same as `person_hash` in User's SQL. */
export function personHash(userId: string): string {
  return createHash("sha256").update(userId).digest("hex");
}

/** One registry from another, and an older state of one from a newer: it grows with all that is written to it. */
export const registryState = z.object({ id: z.string().min(1), latest: z.number().int().nonnegative() });
export type RegistryState = z.infer<typeof registryState>;

export const ERASED_PAGE = 1000;
/** `again`: a registry that lost what it knew is told anew, and may hold facts of these people. */
export const toldErased = z.strictObject({
  again: z.boolean().default(false),
  people: z.array(erasedPerson).max(ERASED_PAGE),
});
/** Whoever was recorded at `since` or later, or everybody, by hash; `after` is the last hash of the page before. */
export const erasedQuery = z.strictObject({
  since: time.optional(),
  after: erasedPerson.shape.hash.optional(),
});
export const erasedPage = z.object({ people: z.array(erasedPerson), state: registryState });
