import type { Client, estypes } from "@elastic/elasticsearch";
import type { SearchBody, SearchQuery } from "@quartet/contracts";
import { fold, highlight } from "./fold.ts";
import type { IndexNames } from "./indexes.ts";
import { searchQuery, similarQuery, suggestQuery } from "./query.ts";
import { living, type UserDocument } from "./users.ts";

const KEEP_ALIVE = "2m";
const FACET_SIZE = 50;
const HIGHLIGHTED = { displayName: "name", handle: "handleText", bio: "bioText", tags: "tagText" } as const;
/** The newer of two equally good first. */
const BEST_FIRST: estypes.SortCombinations[] = [{ _score: { order: "desc" } }, { id: "desc" }];
const EM = ["\u0001", "\u0002"] as const;

/** Where a walk through the pages of one result stands: a snapshot of the index, and the last hit shown. */
export interface Position {
  pit: string;
  after: estypes.SortResults;
}

export interface Page {
  body: Omit<SearchBody, "nextCursor">;
  /** Absent on the last page. */
  next?: Position;
}

/**
 * One page. A result that does not fit on one page is read from a snapshot (a point in time), so that the pages fit together whatever is written meanwhile;
 * and each page is held against the index as it is now, so that nobody who was erased since is shown.
 */
export async function searchPage(
  client: Client,
  names: IndexNames,
  query: Pick<SearchQuery, "q" | "country" | "tag" | "limit">,
  position: Position | undefined,
): Promise<Page> {
  const request = requestOf(query);
  if (!position) {
    const first = await client.search<UserDocument>({ index: names.users, ...request });
    if (first.hits.hits.length <= query.limit) return { body: bodyOf(first, first.hits.hits) };
  }
  let pit = position?.pit ?? (await client.openPointInTime({ index: names.users, keep_alive: KEEP_ALIVE })).id;
  const page = await client.search<UserDocument>({
    ...request,
    pit: { id: pit, keep_alive: KEEP_ALIVE },
    ...(position ? { search_after: position.after } : {}),
  });
  pit = page.pit_id ?? pit;
  const more = page.hits.hits.length > query.limit;
  const shown = page.hits.hits.slice(0, query.limit);
  const last = shown.at(-1);
  if (!more) await client.closePointInTime({ id: pit }).catch(() => {});
  const alive = await living(
    client,
    names,
    shown.map((hit) => hit._id as string),
  );
  const hits = shown.filter((hit) => alive.has(hit._id as string));
  return { body: bodyOf(page, hits), ...(more && last?.sort ? { next: { pit, after: last.sort.slice(0, 2) } } : {}) };
}

function requestOf({
  q,
  country,
  tag,
  limit,
}: Pick<SearchQuery, "q" | "country" | "tag" | "limit">): estypes.SearchRequest {
  const fields = Object.fromEntries(Object.values(HIGHLIGHTED).map((field) => [field, {}]));
  return {
    query: searchQuery(q, { country, tags: tag }),
    // One more than asked for tells whether there is another page.
    size: limit + 1,
    sort: BEST_FIRST,
    track_scores: true,
    track_total_hits: true,
    _source: ["id", "handle", "displayName", "bio", "country", "tags"],
    aggs: {
      country: { terms: { field: "country", size: FACET_SIZE, order: [{ _count: "desc" }, { _key: "asc" }] } },
      tag: { terms: { field: "tags", size: FACET_SIZE, order: [{ _count: "desc" }, { _key: "asc" }] } },
    },
    ...(q.trim() === ""
      ? {}
      : { highlight: { pre_tags: [EM[0]], post_tags: [EM[1]], number_of_fragments: 0, fields } }),
  };
}

function bodyOf(response: estypes.SearchResponse<UserDocument>, hits: estypes.SearchHit<UserDocument>[]): Page["body"] {
  const total = response.hits.total;
  const facet = (name: string) => {
    const found = response.aggregations?.[name] as { buckets: { key: string; doc_count: number }[] } | undefined;
    return (found?.buckets ?? []).map((b) => ({ value: b.key, count: b.doc_count }));
  };
  return {
    hits: hits.map((hit) => {
      const { handle = "", displayName = "", bio = "", country = null, tags = [] } = hit._source ?? {};
      return {
        id: hit._id as string,
        handle,
        displayName,
        bio,
        country,
        tags,
        score: hit._score ?? 0,
        highlight: highlightsOf(hit, { handle, displayName, bio, tags: tags.join(" ") }),
      };
    }),
    total: typeof total === "number" ? total : (total?.value ?? 0),
    facets: { country: facet("country"), tag: facet("tag") },
  };
}

/** The engine marks words in the folded text; the same words are marked in the original. */
function highlightsOf(
  hit: estypes.SearchHit<UserDocument>,
  original: Record<keyof typeof HIGHLIGHTED, string>,
): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const [field, folded] of Object.entries(HIGHLIGHTED) as [keyof typeof HIGHLIGHTED, string][]) {
    const marked = hit.highlight?.[folded]?.flatMap((text) =>
      [...text.matchAll(/\u0001([^\u0002]*)\u0002/g)].map((m) => fold(m[1] as string)),
    );
    const text = marked && highlight(original[field], new Set(marked));
    if (text) found[field] = [text];
  }
  return found;
}

const shortFields = ["id", "handle", "displayName"];
const toShort = (hit: estypes.SearchHit<UserDocument>) => ({
  id: hit._id as string,
  handle: hit._source?.handle ?? "",
  displayName: hit._source?.displayName ?? "",
});

export async function suggest(client: Client, names: IndexNames, q: string, limit: number) {
  const { hits } = await client.search<UserDocument>({
    index: names.users,
    query: suggestQuery(q),
    size: limit,
    sort: BEST_FIRST,
    track_total_hits: false,
    _source: shortFields,
  });
  return hits.hits.map(toShort);
}

/** People like this one; undefined if nobody is there under this id. */
export async function similar(client: Client, names: IndexNames, id: string, limit: number) {
  const person = await client.get<UserDocument>({ index: names.users, id }, { ignore: [404] });
  if (!person._source || person._source.deleted) return undefined;
  const { tags = [], country = null, bioText = "" } = person._source;
  const { hits } = await client.search<UserDocument>({
    index: names.users,
    query: similarQuery({ id, tags, country, bioText }),
    size: limit,
    sort: BEST_FIRST,
    track_total_hits: false,
    _source: shortFields,
  });
  return hits.hits.map(toShort);
}
