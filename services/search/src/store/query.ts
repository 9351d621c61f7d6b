import type { estypes } from "@elastic/elasticsearch";
import { allowedEdits, allowedEditsOfRun, type Group, groupsOf, isMistyped, movable } from "./fold.ts";

type Query = estypes.QueryDslQueryContainer;

export interface Term {
  text: string;
  /** The word may go on. */
  prefix: boolean;
  /** Typing errors forgiven. */
  edits: 0 | 1 | 2;
}

/** One thing a hit has to have: a word, a compound (`jean-luc`: run together, or all its words), or signs in a row. */
export interface QueryUnit {
  kind: Group["kind"];
  joined: Term;
  parts: Term[];
  /** The word written together with its neighbour, as others may have written it: `mac donald`, MacDonald. */
  merged: Term[];
}

export interface ParsedQuery {
  /** The query as a handle (`@Ada_L` is `ada_l`), if it can be one. */
  handle: string | undefined;
  units: QueryUnit[];
  /** It asks for nothing: browse. */
  blank: boolean;
}

/** What one query may ask for; what goes beyond it is not looked at. */
const MOST_WORDS = 16;
const MOST_SIGNS = 64;
/** Typing errors of all its words together: looking for words that are nearly the same is what costs most. */
const MOST_EDITS = 8;
/** The tokenizer cuts longer words, and the engine refuses to look for much longer ones. */
const LONGEST_TOKEN = 255;

/** Takes what somebody typed apart. Nothing in it is syntax but a leading `@`. The last word may be unfinished. */
export function parseQuery(q: string): ParsedQuery {
  const typed = q.trim();
  const handle = /^@?([a-z0-9_]{3,32})$/.exec(typed.toLowerCase())?.[1];
  const groups = bounded(groupsOf(typed));
  let edits = MOST_EDITS;
  const term = (text: string, prefix: boolean, wanted: 0 | 1 | 2): Term => {
    const forgiven = wanted <= edits ? wanted : 0;
    edits -= forgiven;
    return { text: text.slice(0, LONGEST_TOKEN).toWellFormed(), prefix, edits: forgiven };
  };
  const units = groups.map(({ kind, joined, words }, i): QueryUnit => {
    const last = i === groups.length - 1;
    const isRun = kind === "run";
    const neighbours = [
      [groups[i - 1], groups[i]],
      [groups[i], groups[i + 1]],
    ].filter((pair) => pair.every((one) => one && one.kind !== "run")) as Group[][];
    return {
      kind,
      joined: term(joined, last, isRun ? allowedEditsOfRun(words) : allowedEdits(joined)),
      parts:
        kind === "single"
          ? []
          : words.map(({ text }, j) => term(text, last && j === words.length - 1, isRun ? 0 : allowedEdits(text))),
      merged: neighbours.map((pair) => term(pair.map((one) => one.joined).join(""), pair[1] === groups.at(-1), 0)),
    };
  });
  return { handle, units, blank: typed === "" };
}

/** The first groups, with no more words than one query may have. */
function bounded(groups: Group[]): Group[] {
  let words = MOST_WORDS;
  let signs = MOST_SIGNS;
  const taken: Group[] = [];
  for (const group of groups) {
    const isRun = group.kind === "run";
    const some = group.words.slice(0, isRun ? signs : words);
    if (some.length === 0) break;
    if (isRun) signs -= some.length;
    else words -= some.length;
    const joined = some.map((word) => word.text).join("");
    taken.push({ words: some, kind: isRun || some.length > 1 ? group.kind : "single", joined });
  }
  return taken;
}

/** Words of the index, other than itself, that a word of a query may be meant for: within the typing errors that are forgiven. By the word. */
export type Neighbours = ReadonlyMap<string, string[]>;
export const NO_NEIGHBOURS: Neighbours = new Map();

/** Searched fields, and what a match in them weighs. */
const FIELDS = { name: 4, handleText: 3, tagText: 2, bioText: 1 } as const;
type Field = keyof typeof FIELDS;
const EVERYWHERE = Object.keys(FIELDS) as Field[];
const NAMES: Field[] = ["name", "handleText"];

/** Every word of all searched fields, for looking up those that are nearly the same: once a word, not once a field. */
const DICTIONARY = "words";
/** So many neighbours of one word at most, the nearest. */
const MOST_NEIGHBOURS = 100;

/** The words of a query that may be mistyped. */
function mistakable({ units }: ParsedQuery): Term[] {
  const terms = units.flatMap(({ joined, parts }) => [joined, ...parts]).filter(({ edits }) => edits > 0);
  return [...new Map(terms.map((term) => [term.text, term])).values()];
}

/** Asks the index for the neighbours of a query's words; undefined if none may have any. */
export function neighboursRequest(parsed: ParsedQuery): estypes.SearchSuggester | undefined {
  const terms = mistakable(parsed);
  if (terms.length === 0) return undefined;
  const ask = ({ text, edits }: Term): estypes.SearchFieldSuggester => ({
    text,
    term: {
      field: DICTIONARY,
      suggest_mode: "always",
      size: MOST_NEIGHBOURS,
      shard_size: MOST_NEIGHBOURS,
      prefix_length: 1,
      min_word_length: 1,
      max_edits: edits,
      // Of a frequent word too.
      max_term_freq: 1e9,
    },
  });
  return Object.fromEntries(terms.map((term, i) => [`word${i}`, ask(term)]));
}

/** What the index answered to `neighboursRequest`. */
export function neighboursOf(
  parsed: ParsedQuery,
  answer: Record<string, estypes.SearchSuggest[]> | undefined,
): Neighbours {
  const found = new Map<string, string[]>();
  for (const [i, { text, edits }] of mistakable(parsed).entries()) {
    const options = [answer?.[`word${i}`]?.[0]?.options ?? []].flat() as estypes.SearchTermSuggestOption[];
    const near = options.map((option) => option.text).filter((word) => isMistyped(word, text, edits));
    if (near.length > 0) found.set(text, near);
  }
  return found;
}

/** One word in one field. Exact adds to beginning adds to mistyped, so the better kind of match always scores higher. */
function termInField({ text, prefix }: Term, field: Field, neighbours: Neighbours): Query {
  const should: Query[] = [{ term: { [field]: { value: text, boost: 2 } } }];
  if (prefix) should.push({ prefix: { [field]: { value: text, boost: 3 } } });
  const near = neighbours.get(text);
  if (near) should.push({ constant_score: { filter: { terms: { [field]: [text, ...near] } }, boost: 1 } });
  return { bool: { should, minimum_should_match: 1, boost: FIELDS[field] } };
}

const bestOf = (queries: Query[]): Query =>
  queries.length === 1 ? queries[0]! : { dis_max: { tie_breaker: 0.3, queries } };
const termQuery = (term: Term, fields: Field[], neighbours: Neighbours): Query =>
  bestOf(fields.map((field) => termInField(term, field, neighbours)));

function unitQuery({ kind, joined, parts, merged }: QueryUnit, fields: Field[], neighbours: Neighbours): Query {
  const either = [joined, ...merged].map((term) => termQuery(term, fields, neighbours));
  if (kind === "compound") either.push({ bool: { must: parts.map((part) => termQuery(part, fields, neighbours)) } });
  if (kind === "run" && parts.length > 1) either.push(...inARow(parts, fields));
  return bestOf(either);
}

/** Signs in a row, the last of which may be unfinished; or its last consonant belongs to a next one that has only just been begun. */
function inARow(signs: Term[], fields: Field[]): Query[] {
  const texts = signs.map(({ text }) => text);
  const last = signs.at(-1)!;
  const rows = [texts];
  const split = last.prefix ? movable(last.text) : undefined;
  if (split) rows.push([...texts.slice(0, -1), ...split]);
  return rows.flatMap((row) =>
    fields.map((field): Query => {
      const phrase = { query: row.join(" "), boost: 3 * FIELDS[field] };
      return last.prefix ? { match_phrase_prefix: { [field]: phrase } } : { match_phrase: { [field]: phrase } };
    }),
  );
}

/** What scores: all words must be there (three quarters of them from four on); the exact handle is above everything. */
function matching({ handle, units }: ParsedQuery, fields: Field[], neighbours: Neighbours): Query {
  const should: Query[] = [];
  if (handle) should.push({ constant_score: { filter: { term: { handle } }, boost: 1000 } });
  if (units.length > 0) {
    const words: Query = {
      bool: { should: units.map((unit) => unitQuery(unit, fields, neighbours)), minimum_should_match: "3<75%" },
    };
    const inOrder = units
      .flatMap(({ joined, parts }) => (parts.length > 0 ? parts : [joined]))
      .map(({ text }) => text)
      .join(" ");
    const phrase: Query = { match_phrase: { name: { query: inOrder, boost: 4 } } };
    should.push(units.length > 1 ? { bool: { must: [words], should: [phrase] } } : words);
  }
  return should.length === 0 ? { match_none: {} } : { bool: { should, minimum_should_match: 1 } };
}

export interface Filters {
  country?: string | undefined;
  tag: string[];
}

const ALIVE: Query = { term: { deleted: false } };

/** The query of a search. Blank is everybody. */
export function searchQuery(parsed: ParsedQuery, { country, tag }: Filters, neighbours: Neighbours): Query {
  const filter: Query[] = [ALIVE, ...tag.map((one) => ({ term: { tags: one } }))];
  if (country) filter.push({ term: { country } });
  return { bool: { filter, ...(parsed.blank ? {} : { must: [matching(parsed, EVERYWHERE, neighbours)] }) } };
}

/** Type-ahead: names and handles alone. */
export function suggestQuery(parsed: ParsedQuery, neighbours: Neighbours): Query {
  return { bool: { filter: [ALIVE], ...(parsed.blank ? {} : { must: [matching(parsed, NAMES, neighbours)] }) } };
}

/** Every living user, or those of one audit bucket. */
export function livingUsers(bucket?: number): Query {
  return { bool: { filter: bucket === undefined ? [ALIVE] : [ALIVE, { term: { bucket } }] } };
}

/** People who share tags, words of bio and name, or the country; never the person. */
export function similarQuery(person: {
  id: string;
  displayName: string;
  bio: string;
  tags: string[];
  country: string | null;
}): Query {
  const words = (text: string) => {
    // Of a run the whole of it: single signs are in every other text.
    const all = groupsOf(text).flatMap((group) =>
      group.kind === "run" ? [group.joined] : group.words.map((word) => word.text),
    );
    return [...new Set(all)].filter((word) => [...word].length > 2 && word.length <= LONGEST_TOKEN);
  };
  const term = (field: Field, value: string): Query => ({ term: { [field]: { value, boost: 0.5 } } });
  const should: Query[] = [
    ...person.tags.map((tag): Query => ({ constant_score: { filter: { term: { tags: tag } }, boost: 4 } })),
    ...words(person.bio)
      .slice(0, 40)
      .map((word) => term("bioText", word)),
    ...words(person.displayName)
      .slice(0, 8)
      .map((word) => term("name", word)),
  ];
  if (person.country) {
    should.push({ constant_score: { filter: { term: { country: person.country } }, boost: 1 } });
  }
  if (should.length === 0) return { match_none: {} };
  return { bool: { filter: [ALIVE], must_not: [{ term: { id: person.id } }], should, minimum_should_match: 1 } };
}
