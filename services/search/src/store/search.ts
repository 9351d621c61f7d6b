import type { Client, estypes } from "@elastic/elasticsearch";
import type { ConsistencyToken, SearchBody, SearchQuery } from "@quartet/contracts";
import { whole } from "./client.ts";
import { highlightsOf } from "./highlight.ts";
import type { IndexNames } from "./indexes.ts";
import { KEEP_ALIVE, type Snapshot } from "./pits.ts";
import { type ParsedQuery, parseQuery, searchQuery, similarQuery, suggestQuery } from "./query.ts";
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

/**
 * The first page. A result that does not fit on one page is read from a snapshot, so that the pages fit together whatever is written meanwhile.
 * `notBefore` (as `performance.now()` tells time): the snapshot is not older.
 */
export async function firstPage(store: SearchStore, wanted: Wanted, notBefore = 0): Promise<Page> {
  const { client, names, snapshots } = store;
  const parsed = parseQuery(wanted.q);
  const asOf = await store.watermark();
  let answer = await ask(client, wanted, parsed, { index: names.users });
  const snapshot = answer.hits.hits.length > wanted.limit ? await snapshots.take(notBefore) : undefined;
  if (snapshot) answer = await ask(client, wanted, parsed, pitOf(snapshot.pit));
  const alive = await living(client, names, answer.hits.hits);
  const page = pageOf(wanted, parsed, answer, alive, snapshot ?? { pit: "", asOf });
  if (page.next) page.next.walk = snapshots.begun(page.next.pit);
  return page;
}

/** A later page: from the snapshot of the first. */
export async function nextPage(
  store: SearchStore,
  wanted: Wanted,
  { after, walk, ...snapshot }: Position,
): Promise<Page> {
  const { client, names, snapshots } = store;
  const parsed = parseQuery(wanted.q);
  const answer = await ask(client, wanted, parsed, { ...pitOf(snapshot.pit), search_after: after });
  const page = pageOf(wanted, parsed, answer, await living(client, names, answer.hits.hits), snapshot, walk);
  if (!page.next) snapshots.ended(snapshot.pit, walk);
  return page;
}

/** Whether a snapshot shows what a token asks for. It does not change any more, so there is nothing to wait for. */
export async function snapshotSees(client: Client, { pit, asOf }: Snapshot, token: ConsistencyToken): Promise<boolean> {
  if (token.a?.user && !(asOf && Date.parse(asOf) >= Date.parse(token.a.user))) return false;
  const users = token.u ?? [];
  if (users.length === 0) return true;
  const answer = await client.search({
    ...pitOf(pit),
    query: { terms: { id: users.map(([id]) => id) } },
    size: users.length,
    version: true,
    _source: false,
  });
  const versions = new Map(whole(answer).hits.hits.map((hit) => [hit._id, hit._version ?? -1]));
  return users.every(([id, version]) => (versions.get(id) ?? -1) >= version);
}

const pitOf = (id: string) => ({ pit: { id, keep_alive: KEEP_ALIVE } });

async function ask(
  client: Client,
  { country, tag, limit }: Wanted,
  parsed: ParsedQuery,
  where: Pick<estypes.SearchRequest, "index" | "pit" | "search_after">,
): Promise<Answer> {
  const answer = await client.search<UserDocument>({
    ...where,
    allow_partial_search_results: false,
    query: searchQuery(parsed, { country, tag }),
    // One more than asked for tells whether there is another page.
    size: limit + 1,
    sort: parsed.blank ? NEWEST_FIRST : BEST_FIRST,
    track_total_hits: true,
    _source: ["id", "handle", "displayName", "bio", "country", "tags"],
    aggs: {
      country: { terms: { field: "country", size: COUNTRIES } },
      tag: { terms: { field: "tags", size: TAGS } },
    },
  });
  return whole(answer);
}

/** Those hits that are still somebody, as of this moment and whatever view they come from. */
async function living(client: Client, names: IndexNames, hits: Hit[]): Promise<Hit[]> {
  const now = await stored(
    client,
    names,
    hits.map((hit) => hit._id as string),
  );
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
  snapshot: Snapshot,
  walk = "",
): Page {
  const all = answer.hits.hits;
  const shown = all.slice(0, wanted.limit);
  const last = shown.at(-1);
  const { total } = answer.hits;
  const facet = (name: string) => {
    const found = answer.aggregations?.[name] as { buckets: { key: string; doc_count: number }[] } | undefined;
    return (found?.buckets ?? []).map((b) => ({ value: b.key, count: b.doc_count }));
  };
  const body = {
    hits: shown.filter((hit) => alive.includes(hit)).map((hit) => shownHit(hit, parsed)),
    total: typeof total === "number" ? total : (total?.value ?? 0),
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

/** Type-ahead over names and handles; blank shows the newest. */
export async function suggest({ client, names }: SearchStore, q: string, limit: number) {
  const parsed = parseQuery(q);
  return people(client, names, suggestQuery(parsed), limit);
}

/** People like this one; undefined if nobody is there under this id. */
export async function similar({ client, names }: SearchStore, id: string, limit: number) {
  const person = await client.get<UserDocument>({ index: names.users, id }, { ignore: [404] });
  if (person._source?.deleted !== false) return undefined;
  const { tags = [], country = null, bio = "", displayName = "" } = person._source;
  return people(client, names, similarQuery({ id, tags, country, bio, displayName }), limit);
}

async function people(client: Client, names: IndexNames, query: estypes.QueryDslQueryContainer, limit: number) {
  const answer = await client.search<UserDocument>({
    index: names.users,
    allow_partial_search_results: false,
    query,
    size: limit,
    sort: BEST_FIRST,
    track_total_hits: false,
    _source: ["id", "handle", "displayName"],
  });
  return (await living(client, names, whole(answer).hits.hits)).map((hit) => ({
    id: hit._id as string,
    handle: hit._source?.handle ?? "",
    displayName: hit._source?.displayName ?? "",
  }));
}
