import { Client, errors, type estypes } from "@elastic/elasticsearch";
import { createDependency, type Dependency, HttpProblem } from "@quartet/service";

/** A client of one purpose: no retries of its own (the breaker, the projection and the caller have theirs), no sniffing. */
export function connectElasticsearch(url: string, timeoutMs: number): Client {
  const node = new URL(url);
  const { username, password } = node;
  node.username = "";
  node.password = "";
  return new Client({
    node: node.href,
    ...(username ? { auth: { username: decodeURIComponent(username), password: decodeURIComponent(password) } } : {}),
    requestTimeout: timeoutMs,
    maxRetries: 0,
    sniffOnStart: false,
    compression: false,
  });
}

/** Thrown when Elasticsearch answered, but not for the whole index: a shard is still being recovered. */
export class Incomplete extends Error {
  override name = "Incomplete";
}

/** The answer of a search, if it is the whole one. Throws Incomplete. */
export function whole<T extends Pick<estypes.SearchResponse, "timed_out" | "_shards">>(answer: T): T {
  const { total, successful, failed } = answer._shards;
  if (answer.timed_out || failed > 0 || successful < total) throw new Incomplete("not every shard answered");
  return answer;
}

/** The HTTP status Elasticsearch answered with; undefined if it did not answer. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof errors.ResponseError ? error.statusCode : undefined;
}

/** Whether an error is about an index that is not there. */
export function isIndexMissing(error: unknown): boolean {
  if (!(error instanceof errors.ResponseError)) return false;
  const said = JSON.stringify(error.body ?? "");
  return /index_not_found|require_alias/.test(said) || (said.includes("alias ") && said.includes(" missing"));
}

/** Whether an error is about a field that the index does not have. */
export function isFieldMissing(error: unknown): boolean {
  return error instanceof errors.ResponseError && /no mapping found for field/.test(JSON.stringify(error.body ?? ""));
}

/** Whether a point in time is gone, or never was. */
export function isSnapshotGone(error: unknown): boolean {
  return (
    error instanceof errors.ResponseError &&
    /search_context_missing|No search context found|point in time|invalid id/i.test(JSON.stringify(error.body ?? ""))
  );
}

/** Everything but an answer about the request itself means that Elasticsearch is away or unwell. */
function isElasticsearchFault(error: unknown): boolean {
  if (error instanceof HttpProblem || isSnapshotGone(error)) return false;
  if (error instanceof TypeError || error instanceof RangeError) return false;
  const status = statusOf(error);
  // Nothing may be written: a full disk, or the moment in which an index is replaced.
  if (status === 403 && String(error).includes("cluster_block_exception")) return true;
  return status === undefined || status === 429 || status >= 500 || status === 401 || isIndexMissing(error);
}

export function elasticsearchDependency(timeoutMs: number): Dependency {
  return createDependency("elasticsearch", { timeoutMs, isFault: isElasticsearchFault });
}
