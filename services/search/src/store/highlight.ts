import { groupsOf, isMistyped, movable, type Word, wholesOf } from "./fold.ts";
import type { ParsedQuery, QueryUnit, Term } from "./query.ts";

const ESCAPES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Escapes text for HTML content and attributes. */
function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => ESCAPES[c]!);
}

/** The same rule as the query's: exact, beginning, or as many typing errors as are forgiven. */
function matches(word: string, { text, prefix, edits }: Term): boolean {
  return word === text || (prefix && word.startsWith(text)) || (edits > 0 && isMistyped(word, text, edits));
}

type Range = [start: number, end: number];
const placeOf = ({ start, end }: Word): Range => [start, end];

/** A text taken apart as it is indexed. */
interface Indexed {
  words: Word[];
  wholes: Word[];
}

/** Places in a text that one unit of the query matches. */
function places({ words, wholes }: Indexed, { kind, joined, parts, merged }: QueryUnit): Range[] {
  const found = kind === "run" ? rows(words, parts) : [];
  const terms = kind === "run" ? [joined] : [joined, ...parts, ...merged];
  for (const word of words) {
    if (!(kind === "run" && word.sign) && terms.some((term) => matches(word.text, term))) found.push(placeOf(word));
  }
  // What was run together is marked only where none of its words is.
  const isMarked = ({ start, end }: Word) => found.some(([from, to]) => from < end && to > start);
  const together = wholes.filter(
    (whole) => !isMarked(whole) && [joined, ...merged].some((t) => matches(whole.text, t)),
  );
  return [...found, ...together.map(placeOf)];
}

/** Where the signs stand in a row, as the index finds them: whatever is between two of them, if it is no word. */
function rows(words: Word[], signs: Term[]): Range[] {
  const found: Range[] = [];
  const last = signs.at(-1)!;
  const split = last.prefix ? movable(last.text) : undefined;
  const wanted = [signs.map(({ text }) => text)];
  if (split) wanted.push([...wanted[0]!.slice(0, -1), ...split]);
  for (const row of wanted) {
    const end = row.length - 1;
    for (let i = 0; i + end < words.length; i++) {
      const isThere = row.every((text, j) => {
        const word = words[i + j]!.text;
        return word === text || (j === end && last.prefix && word.startsWith(text));
      });
      if (isThere) found.push([words[i]!.start, words[i + end]!.end]);
    }
  }
  return found;
}

/** The text, HTML-escaped, with every word that the query matches in <em>; undefined if there is none. */
export function highlightText(text: string, query: ParsedQuery, { isName = false } = {}): string | undefined {
  const groups = groupsOf(text);
  const indexed = { words: groups.flatMap(({ words }) => words), wholes: wholesOf(text, groups, { isName }) };
  const ranges = query.units.flatMap((unit) => places(indexed, unit)).sort((a, b) => a[0] - b[0] || b[1] - a[1]);
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
    ["displayName", [highlightText(user.displayName, query, { isName: true })]],
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
