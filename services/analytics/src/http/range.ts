import { MAX_POINTS } from "@quartet/contracts";
import { badRequest } from "@quartet/service";
import { bucketsOf, type Interval, type Range } from "../store/time.ts";

const DEFAULT_DAYS = 30;
const DAY = 86_400_000;

/** The half-open range of a query: the last thirty days where it says nothing. 400 if it is empty, or has too many points at its interval. */
export function rangeOf(
  query: { from?: string | undefined; to?: string | undefined },
  interval?: Interval,
  name: "interval" | "cohort" = "interval",
): Range {
  const to =
    query.to === undefined
      ? Math.max(Date.now() + 1, query.from ? Date.parse(query.from) + 1 : 0)
      : Date.parse(query.to);
  const from = query.from === undefined ? Math.max(0, to - DEFAULT_DAYS * DAY) : Date.parse(query.from);
  if (from >= to) {
    throw badRequest([
      { path: "from", message: "must be before to" },
      { path: "to", message: "must be after from" },
    ]);
  }
  if (interval && bucketsOf(interval, { from, to }).count > MAX_POINTS) {
    const message = `gives more than ${MAX_POINTS} points: take a wider one or a shorter range`;
    throw badRequest([name, "from", "to"].map((path) => ({ path, message })));
  }
  return { from, to };
}
