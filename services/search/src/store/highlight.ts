import { type Group, groupsOf, withinEdits } from "./fold.ts";
import type { ParsedQuery, QueryUnit, Term } from "./query.ts";

const ESCAPES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Escapes text for HTML content and attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => ESCAPES[c]!);
}

/** The same rule as the query's: exact, beginning, or as many typing errors as are forgiven. */
function matches(word: string, term: Term): boolean {
  if (word === term.text || (term.prefix && word.startsWith(term.text))) return true;
  return term.edits > 0 && word.codePointAt(0) === term.text.codePointAt(0) && withinEdits(word, term.text, term.edits);
}

type Range = [start: number, end: number];

/** Places in a text that one unit of the query matches. */
function places(groups: Group[], unit: QueryUnit): Range[] {
  const ranges: Range[] = [];
  for (const { words, kind, joined } of groups) {
    if (unit.kind === "ideographs") {
      for (let i = 0; i + unit.parts.length <= words.length; i++) {
        if (unit.parts.every((part, j) => part.text === words[i + j]!.text)) {
          ranges.push([words[i]!.start, words[i + unit.parts.length - 1]!.end]);
        }
      }
    } else {
      const found = words.filter(
        ({ text }) => matches(text, unit.joined) || unit.parts.some((part) => matches(text, part)),
      );
      for (const { start, end } of found) ranges.push([start, end]);
      if (found.length === 0 && kind === "compound" && matches(joined, unit.joined)) {
        ranges.push([words[0]!.start, words.at(-1)!.end]);
      }
    }
  }
  return ranges;
}

/** The text, HTML-escaped, with every word that the query matches in <em>; undefined if there is none. */
export function highlightText(text: string, query: ParsedQuery): string | undefined {
  const groups = groupsOf(text);
  const ranges = query.units.flatMap((unit) => places(groups, unit)).sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  if (ranges.length === 0) return undefined;
  let out = "";
  let at = 0;
  for (let i = 0; i < ranges.length; ) {
    const start = ranges[i]![0];
    let end = ranges[i]![1];
    for (i++; i < ranges.length && ranges[i]![0] <= end; i++) end = Math.max(end, ranges[i]![1]);
    out += `${escapeHtml(text.slice(at, start))}<em>${escapeHtml(text.slice(start, end))}</em>`;
    at = end;
  }
  return out + escapeHtml(text.slice(at));
}

interface Highlighted {
  handle: string;
  displayName: string;
  bio: string;
  tags: string[];
}

/** Highlights of a hit by field, from the original text; of `tags` the matching ones. A field without a match is absent. */
export function highlightsOf(user: Highlighted, query: ParsedQuery): Record<string, string[]> {
  const texts: [string, (string | undefined)[]][] = [
    ["displayName", [highlightText(user.displayName, query)]],
    ["handle", [query.handle === user.handle ? `<em>${user.handle}</em>` : highlightText(user.handle, query)]],
    ["bio", [highlightText(user.bio, query)]],
    ["tags", user.tags.map((tag) => highlightText(tag, query))],
  ];
  return Object.fromEntries(
    texts
      .map(([field, marked]) => [field, marked.filter((text) => text !== undefined)] as const)
      .filter(([, marked]) => marked.length > 0),
  );
}
