import {
  type ClickHouseClient,
  ClickHouseError,
  ClickHouseLogLevel,
  type ClickHouseSettings,
  createClient,
} from "@clickhouse/client";
import { ClientGone, createDependency, type Dependency, HttpProblem, unavailable } from "@quartet/service";
import { type Asker, createGate } from "./gate.ts";

export interface ClickHouseOptions {
  /** `http://user:password@host:port/database` */
  url: string;
  /** Longest time one operation of a request may take, ms; of a question, the wait for its turn included. */
  timeoutMs: number;
  /** Questions of this process that run at the same time, each in a lane of its own kind; others wait in line. */
  lanes: { small: number; heavy: number };
  /** Most memory a heavy question, or any other statement, may use, bytes. A small question may use half of it. */
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
  /** The questions about the facts, in the name of a caller. */
  questionsOf(asker: Asker): Questions;
  /** A short query on behalf of a request. 503 if the store does not answer. */
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
  /** How many questions run, may run, and wait. */
  turns(): { idle: number; used: number; max: number; waiting: number };
  close(): Promise<void>;
}

export type Params = Record<string, unknown>;

/** What only reads the facts, and may read all of them. */
export interface Questions {
  /**
   * Asks when it is the caller's turn, and stops at the deadline, here and in the engine. 503 `query-too-heavy` if it needs more time or memory than it may
   * have, which says nothing against the store; 503 if the store does not answer. `heavy`: it may take long. Then it has a lane of its own, and
   * gives way in the engine to small questions, but for a share; if its turn does not come it is `query-too-heavy` too. `personal`: see QueryOptions.
   */
  ask<T>(sql: string, params: Params, options?: { heavy?: boolean; personal?: boolean }): Promise<T[]>;
}

export interface QueryOptions {
  timeoutMs?: number;
  /** Names a person: keep it out of the engine's query log. */
  personal?: boolean;
  /** It has time: while questions run it stands still. */
  background?: boolean;
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

/** ClickHouse's `priority`: while one with a lower number runs, one with a higher number stands still after each block. What has none is not concerned. */
const PRIORITY = { small: 1, heavy: 5, background: 9 } as const;
/**
 * The longest that a heavy question stands still after each block (`low_priority_query_wait_time_ms`). So it has its share, a few ms of every so many, however many
 * small ones there are. The engine's own 1000 ms are for what runs in the background.
 */
const STAND_STILL_MS = 20;
/** The longest that a question waits for its turn, and the part of its time that is kept for stopping it and for asking whether the store is there. */
const LINE_MS = 800;
const STOP_MS = 150;
/** A store that answers this soon is there, and the question was too heavy for it. */
const SIGN_OF_LIFE_MS = 200;

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
    max_bytes_before_external_sort: String(Math.floor(options.maxMemoryBytes / 2)),
    max_threads: 2,
  };
  /** A question's share of the memory; what does not fit goes to disk where the engine can, and is else too heavy. */
  const shareOf = (bytes: number): ClickHouseSettings => ({
    max_memory_usage: String(Math.floor(bytes)),
    max_bytes_before_external_group_by: String(Math.floor(bytes / 2)),
    max_bytes_before_external_sort: String(Math.floor(bytes / 2)),
  });
  const lane = (width: number, bytes: number, settings: ClickHouseSettings, refusal?: () => HttpProblem) => ({
    gate: createGate({ width, queue: 200, queuePerClient: 20, waitMs: LINE_MS, ...(refusal ? { refusal } : {}) }),
    settings: { ...shareOf(bytes), ...settings } satisfies ClickHouseSettings,
  });
  const small = lane(options.lanes.small, options.maxMemoryBytes / 2, { priority: String(PRIORITY.small) });
  const heavy = lane(
    options.lanes.heavy,
    options.maxMemoryBytes,
    { priority: String(PRIORITY.heavy), low_priority_query_wait_time_ms: String(STAND_STILL_MS) },
    tooHeavy,
  );
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
    ...(o.background ? { priority: String(PRIORITY.background), max_threads: 1 } : {}),
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

  /** For a request: breaker, deadline; an error that the query brought upon itself does not open the breaker. */
  const forRequest = <R>(o: QueryOptions, work: (signal: AbortSignal) => Promise<R>): Promise<R> =>
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

  /** Runs a question until `until`. Then it is aborted, by which the engine ends it too; a deadline that passed is a fault only if the store does not answer. */
  const question = <T>(sql: string, params: Params, o: QueryOptions, until: number, gone?: AbortSignal) =>
    dependency.run<T[]>(
      async (deadline) => {
        const left = Math.max(STOP_MS, until - performance.now());
        const stop = AbortSignal.timeout(Math.ceil(left));
        const signals = [deadline, stop, ...(gone ? [gone] : [])];
        const settings = { ...o.settings, max_execution_time: Math.max(1, left - STOP_MS) / 1000 };
        try {
          return await select<T>(requests, sql, params, { ...o, settings }, AbortSignal.any(signals));
        } catch (error) {
          if (gone?.aborted) throw new ClientGone();
          if (error instanceof ClickHouseError && TOO_HEAVY.has(error.code)) throw tooHeavy(error);
          if (!stop.aborted) throw explain(error);
          await select(requests, "SELECT 1", {}, {}, AbortSignal.timeout(SIGN_OF_LIFE_MS));
          throw tooHeavy(error);
        }
      },
      { timeoutMs: options.timeoutMs + 2 * SIGN_OF_LIFE_MS },
    );
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
    questionsOf: (asker) => ({
      ask(sql, params, { heavy: isHeavy = false, personal = false } = {}) {
        const { gate, settings } = isHeavy ? heavy : small;
        const until = performance.now() + options.timeoutMs;
        return gate.run(asker, () => question(sql, params, { personal, settings }, until, asker.gone));
      },
    }),
    query: (sql, params = {}, o = {}) => forRequest(o, (signal) => select(requests, sql, params, o, signal)),
    command: (sql, params = {}, o = {}) => forRequest(o, (signal) => run(requests, sql, params, o, signal)),
    read(sql, params = {}, o = {}) {
      // What overran ends in the engine as well.
      const settings = { ...o.settings, max_execution_time: (o.timeoutMs ?? INGEST_TIMEOUT_MS) / 1000 };
      return forIngest(o, (signal) => select(ingest, sql, params, { ...o, settings }, signal));
    },
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
    turns() {
      const max = options.lanes.small + options.lanes.heavy;
      const used = small.gate.running + heavy.gate.running;
      return { idle: max - used, used, max, waiting: small.gate.waiting + heavy.gate.waiting };
    },
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

function tooHeavy(cause?: unknown): HttpProblem {
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
