/** The widths of a series. All arithmetic is on whole numbers: ClickHouse's own Monday of 1970-01-01 does not fit its Date type. */
export type Interval = "hour" | "day" | "week" | "month";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** Number of the interval (since 1970, UTC; weeks start on Monday) that holds a time in ms since 1970. */
function bucketOf(interval: Interval, ms: number): number {
  switch (interval) {
    case "hour":
      return Math.floor(ms / HOUR);
    case "day":
      return Math.floor(ms / DAY);
    case "week":
      return Math.floor((Math.floor(ms / DAY) + 3) / 7);
    case "month": {
      const at = new Date(ms);
      return at.getUTCFullYear() * 12 + at.getUTCMonth();
    }
  }
}

/** When an interval starts, as RFC 3339 UTC: the inverse of `bucketOf`. */
export function bucketStart(interval: Interval, bucket: number): string {
  switch (interval) {
    case "hour":
      return new Date(bucket * HOUR).toISOString();
    case "day":
      return new Date(bucket * DAY).toISOString();
    case "week":
      return new Date((bucket * 7 - 3) * DAY).toISOString();
    case "month":
      return new Date(Date.UTC(Math.floor(bucket / 12), bucket % 12)).toISOString();
  }
}

/** The same as `bucketOf`, in SQL, of a DateTime64(3, 'UTC') column or expression of ours (never of a caller). */
export function bucketSql(interval: Interval, column: string): string {
  const ms = `toUnixTimestamp64Milli(${column})`;
  switch (interval) {
    case "hour":
      return `intDiv(${ms}, ${HOUR})`;
    case "day":
      return `intDiv(${ms}, ${DAY})`;
    case "week":
      return `intDiv(intDiv(${ms}, ${DAY}) + 3, 7)`;
    case "month":
      return `toYear(${column}) * 12 + toMonth(${column}) - 1`;
  }
}

/** A half-open stretch of time, in ms since 1970 UTC. */
export interface Range {
  from: number;
  to: number;
}

/** The numbers of all intervals that a range touches, in order: the first may begin before `from`. */
export function bucketsOf(interval: Interval, range: Range): { first: number; count: number } {
  const first = bucketOf(interval, range.from);
  return { first, count: bucketOf(interval, range.to - 1) - first + 1 };
}

/** A time as ClickHouse reads it into DateTime64(3, 'UTC'). */
export function toClickHouse(ms: number): string {
  return new Date(ms).toISOString().slice(0, 23).replace("T", " ");
}

/** Condition on `occurred_at` with the parameters that `rangeParams` gives. */
export const inRange =
  "occurred_at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND occurred_at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')";

export function rangeParams(range: Range): { from: number; to: number } {
  return { from: range.from, to: range.to };
}
