import type { estypes } from "@elastic/elasticsearch";
import { wordsOf } from "./fold.ts";

type Query = estypes.QueryDslQueryContainer;

const MAX_WORDS = 12;
const alive: Query = { term: { deleted: false } };

export interface Filters {
  country?: string | undefined;
  tags?: string[];
}

function filtersOf({ country, tags = [] }: Filters): Query[] {
  return [alive, ...(country ? [{ term: { country } }] : []), ...tags.map((tag) => ({ term: { tags: tag } }))];
}

/** A word with a digit is a name that was given, not one that was mistyped: one digit off is somebody else. */
const isIdentifier = (word: string) => /\p{N}/u.test(word);

/** Whatever a word may be in: exactly best, then as a beginning, then with a typo; a name or handle before a tag before the bio. */
function anywhere(word: string): Query {
  const match = (field: string, boost: number, fuzzy = false): Query => ({
    match: {
      [field]: {
        query: word,
        operator: "and",
        boost,
        ...(fuzzy ? { fuzziness: "AUTO", prefix_length: 1, max_expansions: 50 } : {}),
      },
    },
  });
  const prefix = (field: string, boost: number): Query => ({ prefix: { [field]: { value: word, boost } } });
  return {
    dis_max: {
      tie_breaker: 0.1,
      queries: [
        match("name", 6),
        prefix("name", 3),
        match("handleText", 5),
        prefix("handleText", 2.5),
        match("tagText", 2),
        match("bioText", 1),
        prefix("bioText", 0.5),
        ...(isIdentifier(word)
          ? []
          : [match("name", 1.5, true), match("handleText", 1, true), match("bioText", 0.3, true)]),
      ],
    },
  };
}

/** What somebody typed, as plain text: every word must be found somewhere, and the owner of the exact handle comes first. Blank is everybody. */
export function searchQuery(q: string, filters: Filters): Query {
  const filter = filtersOf(filters);
  const text = q.trim();
  if (text === "") return { bool: { filter, must: [{ match_all: {} }] } };
  const words = wordsOf(text, MAX_WORDS);
  const handle = text.replace(/^@/, "").toLowerCase();
  const should: Query[] = [{ constant_score: { filter: { term: { handle } }, boost: 10_000 } }];
  if (words.length > 0) should.push({ bool: { must: words.map(anywhere) } });
  return { bool: { filter, should, minimum_should_match: 1 } };
}

/** Type-ahead: the last word as a beginning, in names and handles alone. */
export function suggestQuery(q: string): Query {
  const words = wordsOf(q.replace(/^\s*@/, ""), MAX_WORDS);
  if (words.length === 0)
    return { bool: { filter: [alive], must: [q.trim() === "" ? { match_all: {} } : { match_none: {} }] } };
  const must = words.map((word): Query => {
    const prefixes: Query[] = ["name", "handleText"].map((field) => ({
      prefix: { [field]: { value: word, boost: 2 } },
    }));
    const matches: Query[] = ["name", "handleText"].map((field) => ({
      match: { [field]: { query: word, operator: "and", fuzziness: "AUTO", prefix_length: 1, max_expansions: 20 } },
    }));
    return { dis_max: { queries: [...prefixes, ...matches] } };
  });
  return { bool: { filter: [alive], must } };
}

/** People who share tags, the country, or words of the bio; never the person. */
export function similarQuery(person: {
  id: string;
  tags?: string[];
  country?: string | null;
  bioText?: string;
}): Query {
  const should: Query[] = (person.tags ?? []).map((tag) => ({
    constant_score: { filter: { term: { tags: tag } }, boost: 3 },
  }));
  if (person.country) should.push({ constant_score: { filter: { term: { country: person.country } }, boost: 1 } });
  const words = [...new Set(wordsOf(person.bioText ?? "", 30).filter((word) => word.length > 3))];
  if (words.length > 0)
    should.push({ match: { bioText: { query: words.join(" "), boost: 0.5, minimum_should_match: 2 } } });
  if (should.length === 0) return { match_none: {} };
  return { bool: { filter: [alive], must_not: [{ term: { id: person.id } }], should, minimum_should_match: 1 } };
}
