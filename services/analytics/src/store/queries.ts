import type { Questions } from "./client.ts";
import { ANONYMOUS } from "./facts.ts";
import { bucketSql, bucketStart, bucketsOf, type Interval, inRange, type Range, rangeParams } from "./time.ts";

/**
 * The questions Analytics answers. All read `facts FINAL`: a fact that arrived more than once counts once, whether or not the engine has merged its rows.
 * Names and keys of callers reach ClickHouse as parameters, never as SQL.
 */

/** Beyond so long a range a question that keeps something for each person, or of each event, is a heavy one. */
const LONG_MS = 100 * 86_400_000;
const weightOf = (range: Range) => ({ heavy: range.to - range.from > LONG_MS });

/** A session in use, or a tracked event, of somebody who is known. */
const ACTIVE = `user_id != toUUID('${ANONYMOUS}') AND (kind = 'track' OR (kind = 'session' AND name IN ('started', 'active')))`;

/** One point for every interval the range touches. */
function zeroFilled(
  interval: Interval,
  range: Range,
  rows: { bucket: number; n: number }[],
): { at: string; n: number }[] {
  const { first, count } = bucketsOf(interval, range);
  const found = new Map(rows.map((row) => [Number(row.bucket), Number(row.n)]));
  return Array.from({ length: count }, (_, i) => ({
    at: bucketStart(interval, first + i),
    n: found.get(first + i) ?? 0,
  }));
}

export interface Series {
  series: { at: string; count: number }[];
  total: number;
}

async function series(
  questions: Questions,
  where: string,
  params: object,
  interval: Interval,
  range: Range,
): Promise<Series> {
  const rows = await questions.ask<{ bucket: number; n: number }>(
    `SELECT ${bucketSql(interval, "occurred_at")} AS bucket, count() AS n FROM facts FINAL WHERE ${where} AND ${inRange} GROUP BY bucket`,
    { ...params, ...rangeParams(range) },
  );
  const points = zeroFilled(interval, range, rows).map(({ at, n }) => ({ at, count: n }));
  return { series: points, total: points.reduce((sum, p) => sum + p.count, 0) };
}

export function signups(questions: Questions, interval: Interval, range: Range): Promise<Series> {
  return series(questions, "kind = 'user' AND name = 'created'", {}, interval, range);
}

export function events(questions: Questions, name: string, interval: Interval, range: Range): Promise<Series> {
  return series(questions, "kind = 'track' AND name = {name:String}", { name }, interval, range);
}

export async function activeUsers(questions: Questions, interval: Interval, range: Range) {
  const rows = await questions.ask<{ bucket: number; n: number }>(
    `SELECT ${bucketSql(interval, "occurred_at")} AS bucket, uniqExact(user_id) AS n
       FROM facts FINAL WHERE ${ACTIVE} AND ${inRange} GROUP BY bucket`,
    rangeParams(range),
    weightOf(range),
  );
  return { series: zeroFilled(interval, range, rows).map(({ at, n }) => ({ at, users: n })) };
}

export async function sessions(questions: Questions, range: Range) {
  type Row = { started: number; logout: number; revoked: number; expired: number; erased: number; q: number[] };
  const nothing: Row = { started: 0, logout: 0, revoked: 0, expired: 0, erased: 0, q: [] };
  const [row = nothing] = await questions.ask<Row>(
    `SELECT countIf(name = 'started') AS started,
            countIf(name = 'ended' AND reason = 'logout') AS logout, countIf(name = 'ended' AND reason = 'revoked') AS revoked,
            countIf(name = 'ended' AND reason = 'expired') AS expired, countIf(name = 'ended' AND reason = 'erased') AS erased,
            quantilesExactIf(0.5, 0.95, 0.99)(duration, name = 'ended') AS q
       FROM facts FINAL WHERE kind = 'session' AND ${inRange}`,
    rangeParams(range),
  );
  const { started, logout, revoked, expired, erased } = row;
  const some = logout + revoked + expired + erased > 0;
  const [p50, p95, p99] = some ? row.q : [];
  return {
    started,
    ended: { logout, revoked, expired, erased },
    durationSeconds: { p50: p50 ?? null, p95: p95 ?? null, p99: p99 ?? null },
  };
}

/** Cohorts by the interval of people's first activity ever, of those whose first activity lies in the range. */
export async function retention(questions: Questions, cohort: Interval, periods: number, range: Range) {
  // Of a person whose first activity lies in the range, all of it does, or comes after. Four bytes for each event are less than a set for each person.
  const bucket = `toUInt32(${bucketSql(cohort, "occurred_at")})`;
  const since = "occurred_at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')";
  const rows = await questions.ask<{ cohort: number; k: number; n: number }>(
    `SELECT cohort, k, count() AS n FROM (
       SELECT min(occurred_at) AS first, ${bucketSql(cohort, "first")} AS cohort,
              arrayJoin(arrayFilter(k -> k < {periods:Int64}, arrayMap(b -> toInt64(b) - toInt64(cohort), arrayDistinct(groupArrayIf(${bucket}, ${since}))))) AS k
         FROM facts FINAL WHERE ${ACTIVE} GROUP BY user_id
       HAVING first >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND first < fromUnixTimestamp64Milli({to:Int64}, 'UTC'))
     GROUP BY cohort, k`,
    { periods, ...rangeParams(range) },
    weightOf(range),
  );
  const active = new Map<number, number[]>();
  for (const row of rows) {
    const counts = active.get(Number(row.cohort)) ?? new Array<number>(periods).fill(0);
    counts[Number(row.k)] = Number(row.n);
    active.set(Number(row.cohort), counts);
  }
  const { first, count } = bucketsOf(cohort, range);
  return {
    cohorts: Array.from({ length: count }, (_, i) => {
      const counts = active.get(first + i) ?? new Array<number>(periods).fill(0);
      return { at: bucketStart(cohort, first + i), size: counts[0] ?? 0, active: counts };
    }),
  };
}

/**
 * How many people did the first step, then the second, and so on, the last at most `withinSeconds` after the first. Events go by the time they occurred,
 * those of one moment in the order they were accepted; one event serves one step. For each step the latest possible first step is kept: it leaves
 * the most time. (windowFunnel knows neither equal times nor repeated steps well enough.)
 */
export async function funnel(questions: Questions, steps: string[], withinSeconds: number, range: Range) {
  const rows = await questions.ask<{ level: number; n: number }>(
    `WITH {steps:Array(String)} AS steps, toInt64({within:Int64}) AS within
     SELECT arrayCount(x -> x >= 0, arrayFold(
              (acc, e) -> arrayMap(i -> multiIf(
                  steps[i] != e.2, acc[i],
                  i = 1, e.1,
                  acc[i - 1] >= 0 AND e.1 - acc[i - 1] <= within, greatest(acc[i], acc[i - 1]),
                  acc[i]), arrayEnumerate(steps)),
              journey, arrayMap(s -> toInt64(-1), steps))) AS level,
            count() AS n
       FROM (SELECT arrayMap(x -> (x.1, x.3), arraySort(x -> (x.1, x.2),
                      groupArray((toUnixTimestamp64Milli(occurred_at), bitNot(ver), toString(name))))) AS journey
               FROM facts FINAL
              WHERE kind = 'track' AND user_id != toUUID('${ANONYMOUS}') AND has({steps:Array(String)}, name) AND ${inRange}
              GROUP BY user_id)
      GROUP BY level`,
    { steps, within: withinSeconds * 1000, ...rangeParams(range) },
    weightOf(range),
  );
  return {
    steps: steps.map((name, i) => ({
      name,
      users: rows.filter((row) => Number(row.level) > i).reduce((sum, row) => sum + Number(row.n), 0),
    })),
  };
}

export async function top(questions: Questions, name: string, property: string, limit: number, range: Range) {
  const rows = await questions.ask<{ value: string; n: number }>(
    `SELECT properties[{property:String}] AS value, count() AS n FROM facts FINAL
      WHERE kind = 'track' AND name = {name:String} AND mapContains(properties, {property:String}) AND ${inRange}
      GROUP BY value ORDER BY n DESC, value LIMIT {limit:UInt32}`,
    { name, property, limit, ...rangeParams(range) },
    weightOf(range),
  );
  return {
    values: rows.map((row) => ({
      value: JSON.parse(row.value) as string | number | boolean | null,
      count: Number(row.n),
    })),
  };
}

/** What one person did. */
export async function activity(questions: Questions, userId: string) {
  const rows = await questions.ask<{ name: string; n: number; last: number }>(
    // The ids first: FINAL has to put together only the rows of these, which the sorting key finds, and not the whole table.
    `SELECT name, count() AS n, max(toUnixTimestamp64Milli(occurred_at)) AS last FROM facts FINAL
      WHERE id IN (SELECT id FROM facts WHERE user_id = {user:UUID}) AND kind = 'track' AND user_id = {user:UUID}
      GROUP BY name ORDER BY n DESC, name`,
    { user: userId },
    { personal: true },
  );
  const last = Math.max(...rows.map((row) => Number(row.last)));
  return {
    events: rows.reduce((sum, row) => sum + Number(row.n), 0),
    lastEventAt: rows.length > 0 ? new Date(last).toISOString() : null,
    byName: Object.fromEntries(rows.map((row) => [row.name, Number(row.n)])),
  };
}
