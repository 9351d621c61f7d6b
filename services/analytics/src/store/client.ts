import {
  type ClickHouseClient,
  ClickHouseError,
  ClickHouseLogLevel,
  type ClickHouseSettings,
  createClient,
} from "@clickhouse/client";
import { createDependency, type Dependency, HttpProblem, unavailable } from "@quartet/service";
import { createGate, type Gate } from "./gate.ts";

export interface ClickHouseOptions {
  /** `http://user:password@host:port/database` */
  url: string;
  /** Longest time one operation of a request may take, ms. */
  timeoutMs: number;
  /** Heavy queries of this process that run at the same time; others wait in line. */
  concurrency: number;
  /** Most memory one query may use, bytes. */
  maxMemoryBytes: number;
}

/** Thrown by the ingesting side when the store did not take a batch; nothing is wrong with the batch: try again for ever. */
export class StoreUnavailable extends Error {
  override name = "StoreUnavailable";
}

/** The request's side has short deadlines and a breaker; the projector's side waits longer and is retried by the projection. */
export interface ClickHouse {
  readonly dependency: Dependency;
  readonly database: string;
  /** A query on behalf of a request. 503 if the store does not answer, is overloaded, or the query is too heavy. */
  query<T>(sql: string, params?: Params, options?: QueryOptions): Promise<T[]>;
  /** A statement without a result on behalf of a request. */
  command(sql: string, params?: Params, options?: QueryOptions): Promise<void>;
  /** A query of the projector or a background task. Throws StoreUnavailable. */
  read<T>(sql: string, params?: Params, options?: QueryOptions): Promise<T[]>;
  /** A statement of the projector or a background task. Throws StoreUnavailable. */
  execute(sql: string, params?: Params, options?: QueryOptions): Promise<void>;
  /** Inserts rows, one block, synchronously and durably. Throws StoreUnavailable. */
  insert(table: string, columns: readonly string[], rows: unknown[][]): Promise<void>;
  /** Called when a table or the database is missing: whoever migrates may want to know. */
  onMissingSchema(listener: () => void): void;
  /** How many heavy queries run, may run, and wait. */
  turns(): { idle: number; used: number; max: number; waiting: number };
  close(): Promise<void>;
}

export type Params = Record<string, unknown>;

export interface QueryOptions {
  timeoutMs?: number;
  /** Names a person: keep it out of the engine's query log. */
  personal?: boolean;
  /** Wait in line with the other heavy queries. */
  heavy?: boolean;
  settings?: ClickHouseSettings;
}

const MISSING_SCHEMA = new Set(["60", "81"]);
/** TIMEOUT_EXCEEDED, TOO_SLOW, MEMORY_LIMIT_EXCEEDED, TOO_MANY_ROWS_OR_BYTES, QUERY_WAS_CANCELLED: about this query, not about the store. */
const TOO_HEAVY = new Set(["159", "160", "241", "396", "394"]);
/** Codes of a query that is wrong in itself: our mistake, to be seen as one and not as an outage. */
const OUR_MISTAKE = new Set([
  "6",
  "26",
  "27",
  "36",
  "41",
  "42",
  "43",
  "44",
  "46",
  "47",
  "53",
  "62",
  "69",
  "70",
  "72",
  "130",
  "215",
  "386",
  "457",
]);

const INGEST_TIMEOUT_MS = 15_000;
/** The longest that anything of the ingesting side may ask for: the client would cut a statement off by itself after this. */
const LONGEST_MS = 70_000;

export function createClickHouse(options: ClickHouseOptions): ClickHouse {
  const { pathname } = new URL(options.url);
  const database = decodeURIComponent(pathname.slice(1)) || "default";
  const common: ClickHouseSettings = {
    output_format_json_quote_64bit_integers: 0,
    cancel_http_readonly_queries_on_client_close: 1,
    async_insert: 0,
    max_memory_usage: String(options.maxMemoryBytes),
    max_bytes_before_external_group_by: String(Math.floor(options.maxMemoryBytes / 2)),
    max_threads: 2,
  };
  const connect = (settings: ClickHouseSettings, timeoutMs: number, connections: number): ClickHouseClient =>
    createClient({
      url: options.url,
      application: "quartet-analytics",
      // It writes text to the console; what matters is thrown, and logged by whoever catches it.
      log: { level: ClickHouseLogLevel.OFF },
      request_timeout: timeoutMs,
      max_open_connections: connections,
      // The server closes idle connections; a socket that is younger than its limit is not one it is just closing.
      keep_alive: { enabled: true, idle_socket_ttl: 2_000 },
      clickhouse_settings: { ...common, ...settings },
    });
  const requests = connect({ max_execution_time: options.timeoutMs / 1000 - 0.1 }, options.timeoutMs + 1_000, 32);
  const ingest = connect({}, LONGEST_MS, 4);
  const dependency = createDependency("clickhouse", {
    timeoutMs: options.timeoutMs,
    isFault: (error) => !(error instanceof HttpProblem) && !(error instanceof OurMistake),
  });
  const gate: Gate = createGate({ width: options.concurrency, queue: 200, waitMs: 400 });
  const listeners: (() => void)[] = [];

  const explain = (error: unknown): unknown => {
    if (!(error instanceof ClickHouseError)) return error;
    if (MISSING_SCHEMA.has(error.code)) for (const listener of listeners) listener();
    if (OUR_MISTAKE.has(error.code)) return new OurMistake(error.message, { cause: error });
    return error;
  };
  const settingsOf = (o: QueryOptions): ClickHouseSettings => ({
    ...o.settings,
    ...(o.personal ? { log_queries: 0 } : {}),
  });

  const select = async <T>(
    client: ClickHouseClient,
    sql: string,
    params: Params,
    o: QueryOptions,
    signal: AbortSignal,
  ) => {
    const result = await client.query({
      query: sql,
      query_params: params,
      format: "JSONEachRow",
      clickhouse_settings: settingsOf(o),
      abort_signal: signal,
      use_multipart_params_auto: true,
    });
    return result.json<T>();
  };
  const run = async (client: ClickHouseClient, sql: string, params: Params, o: QueryOptions, signal: AbortSignal) => {
    await client.command({
      query: sql,
      query_params: params,
      clickhouse_settings: settingsOf(o),
      abort_signal: signal,
    });
  };

  /** For a request: gate, breaker, deadline; an error that the query brought upon itself does not open the breaker. */
  const forRequest = <R>(o: QueryOptions, work: (signal: AbortSignal) => Promise<R>): Promise<R> => {
    const guarded = () =>
      dependency.run(
        async (signal) => {
          try {
            return await work(signal);
          } catch (error) {
            if (error instanceof ClickHouseError && TOO_HEAVY.has(error.code)) throw tooHeavy(error);
            throw explain(error);
          }
        },
        { timeoutMs: o.timeoutMs ?? options.timeoutMs },
      );
    return o.heavy ? gate.run(guarded) : guarded();
  };
  const forIngest = async <R>(o: QueryOptions, work: (signal: AbortSignal) => Promise<R>): Promise<R> => {
    try {
      return await work(AbortSignal.timeout(o.timeoutMs ?? INGEST_TIMEOUT_MS));
    } catch (error) {
      explain(error);
      throw new StoreUnavailable((error as Error).message.slice(0, 500), { cause: error });
    }
  };

  return {
    dependency,
    database,
    query: (sql, params = {}, o = {}) => forRequest(o, (signal) => select(requests, sql, params, o, signal)),
    command: (sql, params = {}, o = {}) => forRequest(o, (signal) => run(requests, sql, params, o, signal)),
    read: (sql, params = {}, o = {}) => forIngest(o, (signal) => select(ingest, sql, params, o, signal)),
    execute: (sql, params = {}, o = {}) => forIngest(o, (signal) => run(ingest, sql, params, o, signal)),
    insert: (table, columns, rows) =>
      forIngest({}, async (signal) => {
        await ingest.insert({
          table,
          columns: columns as [string, ...string[]],
          values: rows,
          format: "JSONCompactEachRow",
          clickhouse_settings: { insert_deduplicate: 0, max_insert_threads: "1" },
          abort_signal: signal,
        });
      }),
    onMissingSchema: (listener) => void listeners.push(listener),
    turns: () => ({
      idle: options.concurrency - gate.running,
      used: gate.running,
      max: options.concurrency,
      waiting: gate.waiting,
    }),
    async close() {
      dependency.close();
      await Promise.all([requests.close(), ingest.close()]);
    },
  };
}

/** A query that ClickHouse refused as malformed: a bug of this service, answered with 500 and logged. */
class OurMistake extends Error {
  override name = "ClickHouseRefusedQuery";
}

function tooHeavy(cause: ClickHouseError): HttpProblem {
  const problem = unavailable("clickhouse", 1, cause);
  return new HttpProblem(503, {
    slug: "query-too-heavy",
    detail:
      "the query needs more time or memory than one may have: ask for a shorter range, or again when there is less load",
    headers: problem.headers,
    dependency: "clickhouse",
    cause,
  });
}
