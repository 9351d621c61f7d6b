import type { Client, estypes } from "@elastic/elasticsearch";
import type { ConsistencyToken, SearchBody, SearchQuery } from "@quartet/contracts";
import { isFieldMissing, whole } from "./client.ts";
import { highlightsOf } from "./highlight.ts";
import { KEEP_ALIVE, type Snapshot } from "./pits.ts";
import {
  type Neighbours,
  NO_NEIGHBOURS,
  neighboursOf,
  neighboursRequest,
  type ParsedQuery,
  parseQuery,
  searchQuery,
  similarQuery,
  suggestQuery,
} from "./query.ts";
import type { SearchStore } from "./store.ts";
import { stored, type UserDocument } from "./users.ts";

const COUNTRIES = 300;
const TAGS = 100;
/** The newer of two equally good first; ids sort by the time of their creation. */
const BEST_FIRST: estypes.SortCombinations[] = [{ _score: { order: "desc" } }, { id: "desc" }];
const NEWEST_FIRST: estypes.SortCombinations[] = [{ id: "desc" }];

/** Where a walk through the pages of one result stands: a snapshot of the index, and the last hit shown. */
export interface Position extends Snapshot {
  after: estypes.SortResults;
  walk: string;
  /** Words that are nearly the same count too. */
  mistyped: boolean;
}

export interface Page {
  body: Omit<SearchBody, "nextCursor">;
  /** As of when it is true; undefined while unknown. */
  asOf: string | undefined;
  /** Absent on the last page. */
  next?: Position;
}

type Wanted = Pick<SearchQuery, "q" | "country" | "tag" | "limit">;
type Hit = estypes.SearchHit<UserDocument>;
type Answer = estypes.SearchResponse<UserDocument>;
type Facet = SearchBody["facets"]["country"];

/** So many people who have the words as they were typed fill the largest page: then nobody is looked for who has only nearly the same. */
const FILLED = 100;

/**
 * The first page. A result that does not fit on one page is read from a snapshot, so that the pages fit together whatever is written meanwhile.
 * `notBefore` (as `performance.now()` tells time): the snapshot is not older. `signal`: nobody waits for it any more.
 */
export async function firstPage(store: SearchStore, wanted: Wanted, options: FirstPageOptions = {}): Promise<Page> {
  const { names, snapshots } = store;
  const { notBefore = 0, signal } = options;
  const parsed = parseQuery(wanted.q);
  const asOf = await store.watermark();
  let found = await find(store, wanted, parsed, { index: names.users }, signal);
  const isMore = found.answer.hits.hits.length > wanted.limit;
  const snapshot = isMore ? await snapshots.take(notBefore) : undefined;
  if (snapshot) found = await find(store, wanted, parsed, pitOf(snapshot.pit), signal);
  const { answer, mistyped } = found;
  const alive = await living(store, answer.hits.hits, signal);
  const page = pageOf(wanted, parsed, answer, alive, { ...(snapshot ?? { pit: "", asOf }), mistyped });
  if (page.next) page.next.walk = snapshots.begun(page.next.pit);
  return page;
}

export interface FirstPageOptions {
  notBefore?: number;
  signal?: AbortSignal | undefined;
}

/** A later page: from the snapshot of the first. */
export async function nextPage(
  store: SearchStore,
  wanted: Wanted,
  { after, walk, ...snapshot }: Position,
  signal?: AbortSignal,
): Promise<Page> {
  const parsed = parseQuery(wanted.q);
  const where = pitOf(snapshot.pit);
  const neighbours = snapshot.mistyped ? (await lookUp(store.client, parsed, where, signal)).neighbours : NO_NEIGHBOURS;
  const answer = await ask(store.client, wanted, parsed, neighbours, { ...where, search_after: after }, signal);
  const page = pageOf(wanted, parsed, answer, await living(store, answer.hits.hits, signal), snapshot, walk);
  if (!page.next) store.snapshots.ended(snapshot.pit, walk);
  return page;
}

type Where = Pick<estypes.SearchRequest, "index" | "pit">;

/**
 * Two stages: whoever has the words as typed, or words that begin so. Only if they are too few for the largest page, whatever the filters and the page's size
 * are, is looked for words that are nearly the same: finding these is what a search costs most.
 */
async function find(
  { client }: Pick<SearchStore, "client">,
  wanted: Wanted,
  parsed: ParsedQuery,
  where: Where,
  signal?: AbortSignal,
): Promise<{ answer: Answer; mistyped: boolean }> {
  const answer = await ask(client, wanted, parsed, NO_NEIGHBOURS, where, signal);
  if (totalOf(answer) >= FILLED) return { answer, mistyped: false };
  const isFiltered = wanted.country !== undefined || wanted.tag.length > 0;
  const { neighbours, exact } = await lookUp(client, parsed, where, signal, { countExact: isFiltered });
  if (neighbours.size === 0 || exact >= FILLED) return { answer, mistyped: false };
  return { answer: await ask(client, wanted, parsed, neighbours, where, signal), mistyped: true };
}

/** The neighbours of a query's words, and, if wanted, how many people have the words as typed, with no filter (at most FILLED are counted). */
async function lookUp(
  client: Client,
  parsed: ParsedQuery,
  where: Where,
  signal: AbortSignal | undefined,
  { countExact = false } = {},
): Promise<{ neighbours: Neighbours; exact: number }> {
  const suggest = neighboursRequest(parsed);
  if (!suggest) return { neighbours: NO_NEIGHBOURS, exact: 0 };
  const request: estypes.SearchRequest = {
    ...where,
    allow_partial_search_results: false,
    query: countExact ? searchQuery(parsed, { tag: [] }, NO_NEIGHBOURS) : { match_none: {} },
    size: 0,
    track_total_hits: FILLED,
    suggest,
  };
  try {
    const answer = whole(await client.search(request, { signal }));
    return { neighbours: neighboursOf(parsed, answer.suggest), exact: totalOf(answer) };
  } catch (error) {
    // An index of an earlier version is in use, until the one of this version is filled.
    if (isFieldMissing(error)) return { neighbours: NO_NEIGHBOURS, exact: 0 };
    throw error;
  }
}

function totalOf({ hits: { total } }: Pick<estypes.SearchResponse, "hits">): number {
  return typeof total === "number" ? total : (total?.value ?? 0);
}

/** Whether a snapshot shows what a token asks for. It does not change any more, so there is nothing to wait for. */
export async function snapshotSees(
  client: Client,
  { pit, asOf }: Snapshot,
  token: ConsistencyToken,
  signal?: AbortSignal,
): Promise<boolean> {
  if (token.a?.user && !(asOf && Date.parse(asOf) >= Date.parse(token.a.user))) return false;
  const users = token.u ?? [];
  const versions = await visible(
    client,
    pitOf(pit),
    users.map(([id]) => id),
    signal,
  );
  return users.every(([id, version]) => (versions.get(id) ?? -1) >= version);
}

/** The version at which a search sees each of the ids; absent if not at all. */
export async function visible(
  client: Client,
  where: Where,
  ids: string[],
  signal?: AbortSignal,
): Promise<Map<string, number>> {
  if (ids.length === 0) return new Map();
  const answer = await client.search(
    {
      ...where,
      allow_partial_search_results: false,
      query: { bool: { filter: [{ terms: { id: ids } }] } },
      size: ids.length,
      sort: ["_doc"],
      track_total_hits: false,
      version: true,
      _source: false,
    },
    { signal },
  );
  return new Map(whole(answer).hits.hits.map((hit) => [hit._id as string, hit._version ?? -1]));
}

const pitOf = (id: string) => ({ pit: { id, keep_alive: KEEP_ALIVE } });

async function ask(
  client: Client,
  { country, tag, limit }: Wanted,
  parsed: ParsedQuery,
  neighbours: Neighbours,
  where: Pick<estypes.SearchRequest, "index" | "pit" | "search_after">,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  const answer = await client.search<UserDocument>(
    {
      ...where,
      allow_partial_search_results: false,
      query: searchQuery(parsed, { country, tag }, neighbours),
      // One more than asked for tells whether there is another page.
      size: limit + 1,
      sort: parsed.blank ? NEWEST_FIRST : BEST_FIRST,
      track_total_hits: true,
      _source: ["id", "handle", "displayName", "bio", "country", "tags"],
      aggs: {
        country: { terms: { field: "country", size: COUNTRIES } },
        tag: { terms: { field: "tags", size: TAGS } },
      },
    },
    { signal },
  );
  return whole(answer);
}

/** Those hits that are still somebody, as of this moment and whatever view they come from. */
async function living(
  { client, names }: Pick<SearchStore, "client" | "names">,
  hits: Hit[],
  signal: AbortSignal | undefined,
): Promise<Hit[]> {
  const ids = hits.map((hit) => hit._id as string);
  const now = await stored(client, names, ids, signal);
  return hits.filter((hit) => now.get(hit._id as string)?.deleted === false);
}

/** The same total and facets without those hits who are nobody any more: a view of the index may be older than their erasure. */
function without(body: Page["body"], gone: Hit[]): Page["body"] {
  if (gone.length === 0) return body;
  const fewer = (facet: Facet, valuesOf: (hit: Hit) => (string | null | undefined)[]): Facet =>
    facet
      .map(({ value, count }) => ({ value, count: count - gone.filter((hit) => valuesOf(hit).includes(value)).length }))
      .filter(({ count }) => count > 0)
      .sort((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1));
  return {
    ...body,
    total: body.total - gone.length,
    facets: {
      country: fewer(body.facets.country, (hit) => [hit._source?.country]),
      tag: fewer(body.facets.tag, (hit) => hit._source?.tags ?? []),
    },
  };
}

function pageOf(
  wanted: Wanted,
  parsed: ParsedQuery,
  answer: Answer,
  alive: Hit[],
  snapshot: Snapshot & { mistyped: boolean },
  walk = "",
): Page {
  const all = answer.hits.hits;
  const shown = all.slice(0, wanted.limit);
  const last = shown.at(-1);
  const facet = (name: string) => {
    const found = answer.aggregations?.[name] as { buckets: { key: string; doc_count: number }[] } | undefined;
    return (found?.buckets ?? []).map((b) => ({ value: b.key, count: b.doc_count }));
  };
  const body = {
    hits: shown.filter((hit) => alive.includes(hit)).map((hit) => shownHit(hit, parsed)),
    total: totalOf(answer),
    facets: { country: facet("country"), tag: facet("tag") },
  };
  const gone = all.filter((hit) => !alive.includes(hit));
  return {
    body: without(body, gone),
    asOf: snapshot.asOf,
    ...(all.length > wanted.limit && snapshot.pit && last?.sort
      ? { next: { ...snapshot, after: last.sort, walk } }
      : {}),
  };
}

function shownHit(hit: Hit, parsed: ParsedQuery): SearchBody["hits"][number] {
  const { handle = "", displayName = "", bio = "", country = null, tags = [] } = hit._source ?? {};
  const score = Math.round((hit._score ?? 0) * 1e4) / 1e4;
  const highlight = highlightsOf({ handle, displayName, bio, tags }, parsed);
  return { id: hit._id as string, handle, displayName, bio, country, tags, score, highlight };
}

/** Type-ahead over names and handles; blank shows the newest. Who has only nearly the same words is shown where the others leave room. */
export async function suggest(store: SearchStore, q: string, limit: number, signal?: AbortSignal) {
  const parsed = parseQuery(q);
  const found = await people(store, suggestQuery(parsed, NO_NEIGHBOURS), limit, signal);
  if (found.length >= limit) return found;
  const { neighbours } = await lookUp(store.client, parsed, { index: store.names.users }, signal);
  return neighbours.size === 0 ? found : people(store, suggestQuery(parsed, neighbours), limit, signal);
}

/** People like this one; undefined if nobody is there under this id. */
export async function similar(store: SearchStore, id: string, limit: number, signal?: AbortSignal) {
  const person = await store.client.get<UserDocument>({ index: store.names.users, id }, { ignore: [404], signal });
  if (person._source?.deleted !== false) return undefined;
  const { tags = [], country = null, bio = "", displayName = "" } = person._source;
  return people(store, similarQuery({ id, tags, country, bio, displayName }), limit, signal);
}

async function people(
  { client, names }: SearchStore,
  query: estypes.QueryDslQueryContainer,
  limit: number,
  signal: AbortSignal | undefined,
) {
  const answer = await client.search<UserDocument>(
    {
      index: names.users,
      allow_partial_search_results: false,
      query,
      size: limit,
      sort: BEST_FIRST,
      track_total_hits: false,
      _source: ["id", "handle", "displayName"],
    },
    { signal },
  );
  return (await living({ client, names }, whole(answer).hits.hits, signal)).map((hit) => ({
    id: hit._id as string,
    handle: hit._source?.handle ?? "",
    displayName: hit._source?.displayName ?? "",
  }));
}
