import type { estypes } from "@elastic/elasticsearch";
import { allowedEdits, groupsOf } from "./fold.ts";

type Query = estypes.QueryDslQueryContainer;

export interface Term {
  text: string;
  /** The word may go on. */
  prefix: boolean;
  /** Typing errors forgiven. */
  edits: 0 | 1 | 2;
}

/** One thing a hit has to have: a word, a compound (`jean-luc`: run together, or all its words), or ideographs in a row. */
export interface QueryUnit {
  kind: "single" | "compound" | "ideographs";
  joined: Term;
  parts: Term[];
}

export interface ParsedQuery {
  /** The query as a handle (`@Ada_L` is `ada_l`), if it can be one. */
  handle: string | undefined;
  units: QueryUnit[];
  /** It asks for nothing: browse. */
  blank: boolean;
}

const MAX_UNITS = 16;
/** A fuzzy query walks the dictionary: only so many words of one query get one. */
const MAX_FUZZY = 8;

/** Takes what somebody typed apart. Nothing in it is syntax but a leading `@`. The last word may be unfinished. */
export function parseQuery(q: string): ParsedQuery {
  const typed = q.trim();
  const handle = /^@?([a-z0-9_]{3,32})$/.exec(typed.toLowerCase())?.[1];
  const groups = groupsOf(typed).slice(0, MAX_UNITS);
  const units = groups.map((group, i): QueryUnit => {
    const last = i === groups.length - 1;
    const term = (text: string, prefix: boolean): Term => ({
      text: text.slice(0, LONGEST_TOKEN).toWellFormed(),
      prefix,
      edits: i < MAX_FUZZY ? allowedEdits(text) : 0,
    });
    return {
      kind: group.kind,
      joined: term(group.joined, last),
      parts: group.words.map((word, j) => term(word.text, last && j === group.words.length - 1)),
    };
  });
  return { handle, units, blank: typed === "" };
}

/** The tokenizer cuts longer words, and the engine refuses to look for much longer ones. */
const LONGEST_TOKEN = 255;

/** Searched fields, and what a match in them weighs. */
const FIELDS = { name: 4, handleText: 3, tagText: 2, bioText: 1 } as const;
type Field = keyof typeof FIELDS;
const EVERYWHERE = Object.keys(FIELDS) as Field[];
const NAMES: Field[] = ["name", "handleText"];

/** One word in one field. Exact adds to beginning adds to mistyped, so the better kind of match always scores higher. */
function termInField({ text, prefix, edits }: Term, field: Field): Query {
  const should: Query[] = [{ term: { [field]: { value: text, boost: 2 } } }];
  if (prefix) should.push({ prefix: { [field]: { value: text, boost: 3 } } });
  if (edits > 0) {
    // Of constant score: then there is no limit of expansions, so `total` stays exact, and no limit of clauses to run into.
    const fuzzy = { value: text, fuzziness: edits, prefix_length: 1, rewrite: "constant_score" };
    should.push({ constant_score: { filter: { fuzzy: { [field]: fuzzy } }, boost: 1 } });
  }
  return { bool: { should, minimum_should_match: 1, boost: FIELDS[field] } };
}

const bestOf = (queries: Query[]): Query => ({ dis_max: { tie_breaker: 0.3, queries } });
const termQuery = (term: Term, fields: Field[]): Query => bestOf(fields.map((field) => termInField(term, field)));

function unitQuery(unit: QueryUnit, fields: Field[]): Query {
  if (unit.kind === "single") return termQuery(unit.joined, fields);
  if (unit.kind === "compound") {
    return bestOf([
      termQuery(unit.joined, fields),
      { bool: { must: unit.parts.map((part) => termQuery(part, fields)) } },
    ]);
  }
  const query = unit.parts.map((part) => part.text).join(" ");
  return bestOf(fields.map((field) => ({ match_phrase: { [field]: { query, boost: 3 * FIELDS[field] } } })));
}

/** What scores: all words must be there (three quarters of them from four on); the exact handle is above everything. */
function matching({ handle, units }: ParsedQuery, fields: Field[]): Query {
  const should: Query[] = [];
  if (handle) should.push({ constant_score: { filter: { term: { handle } }, boost: 1000 } });
  if (units.length > 0) {
    const words: Query = {
      bool: { should: units.map((unit) => unitQuery(unit, fields)), minimum_should_match: "3<75%" },
    };
    const inOrder = units.flatMap((unit) => unit.parts.map((part) => part.text)).join(" ");
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
export function searchQuery(parsed: ParsedQuery, { country, tag }: Filters): Query {
  const filter: Query[] = [ALIVE, ...tag.map((one) => ({ term: { tags: one } }))];
  if (country) filter.push({ term: { country } });
  return { bool: { filter, ...(parsed.blank ? {} : { must: [matching(parsed, EVERYWHERE)] }) } };
}

/** Type-ahead: names and handles alone. */
export function suggestQuery(parsed: ParsedQuery): Query {
  return { bool: { filter: [ALIVE], ...(parsed.blank ? {} : { must: [matching(parsed, NAMES)] }) } };
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
    const all = groupsOf(text).flatMap((group) => group.words.map((word) => word.text));
    return [...new Set(all)].filter((word) => word.length > 2);
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
