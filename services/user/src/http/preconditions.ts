import { badRequest } from "@quartet/service";
import type { Request } from "express";

interface EntityTag {
  weak: boolean;
  value: string;
}

/** The strong entity tag of a revision. */
export function etagOf(revision: number): string {
  return `"${revision}"`;
}

/** `*`, a list of entity tags, or undefined if the header is not one (RFC 9110, 8.8.3). */
function parseTags(header: string): "*" | EntityTag[] | undefined {
  if (header.trim() === "*") return "*";
  const tags: EntityTag[] = [];
  let rest = header;
  for (;;) {
    rest = rest.replace(/^[ \t,]+/, "");
    if (rest === "") return tags.length > 0 ? tags : undefined;
    const match = /^(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?=,|$)/.exec(rest);
    if (!match) return undefined;
    tags.push({ weak: match[1] !== undefined, value: match[2]! });
    rest = rest.slice(match[0].length);
  }
}

/**
 * Whether the request's If-Match allows a change of the given revision: no header does, `*` does, a list does if one of its strong tags is the
 * revision's. A malformed header is 400 that names it.
 */
export function ifMatch(req: Request): (revision: number) => boolean {
  const header = req.headers["if-match"];
  if (header === undefined) return () => true;
  const tags = parseTags(header);
  if (!tags) throw badRequest({ path: "If-Match", message: 'must be * or a list of entity tags such as "3"' });
  return (revision) => tags === "*" || tags.some((tag) => !tag.weak && tag.value === String(revision));
}

/** Whether the caller has this revision already (If-None-Match, weak comparison). A malformed header is ignored, as it only saves bytes. */
export function isKnown(req: Request, revision: number): boolean {
  const header = req.headers["if-none-match"];
  const tags = header === undefined ? undefined : parseTags(header);
  return tags === "*" || (tags?.some((tag) => tag.value === String(revision)) ?? false);
}
