import { z } from "zod";
import { country, documentAs, text, wholeNumber } from "./fields.ts";

const TAG = /^[a-z0-9-]{1,32}$/;
const oneTag = z.string().regex(TAG, "must match [a-z0-9-]{1,32}");

export const searchQuery = z.object({
  q: text(0, 200).default(""),
  country: country.optional(),
  /** Repeated: all of them must be there. */
  tag: documentAs(z.union([oneTag.transform((t) => [t]), z.array(oneTag).max(10, "at most 10 tags")]), {
    type: "array",
    items: { type: "string", pattern: TAG.source },
    maxItems: 10,
  }).default([]),
  limit: wholeNumber(1, 100, 20),
  cursor: z
    .string()
    .max(8000)
    .regex(/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/, "is not a cursor of ours")
    .optional(),
});
export type SearchQuery = z.infer<typeof searchQuery>;

export const suggestQuery = z.object({ q: text(0, 100).default(""), limit: wholeNumber(1, 20, 8) });

const bucket = z.object({ value: z.string(), count: z.number().int() });
const searchHit = z.object({
  id: z.uuid(),
  handle: z.string(),
  displayName: z.string(),
  bio: z.string(),
  country: z.string().nullable(),
  tags: z.array(z.string()),
  score: z.number(),
  /** By field: the text, HTML-escaped, with the matches in <em>. */
  highlight: z.record(z.string(), z.array(z.string())),
});
export const searchBody = z.object({
  hits: z.array(searchHit),
  total: z.number().int(),
  facets: z.object({ country: z.array(bucket), tag: z.array(bucket) }),
  nextCursor: z.string().optional(),
});
export type SearchBody = z.infer<typeof searchBody>;
export const suggestion = z.object({ id: z.uuid(), handle: z.string(), displayName: z.string() });
export const suggestBody = z.object({ suggestions: z.array(suggestion) });
