import type { Source } from "@quartet/contracts";
import type { ClickHouse } from "./client.ts";
import { toClickHouse } from "./time.ts";

export type Watermarks = Partial<Record<Source, Date>>;

const SQL = "SELECT source, toUnixTimestamp64Milli(max(at)) AS ms FROM watermarks GROUP BY source";

function toWatermarks(rows: { source: string; ms: number }[]): Watermarks {
  return Object.fromEntries(rows.map((row) => [row.source, new Date(row.ms)])) as Watermarks;
}

/** As of when each source is complete here. Read it before the data it is to be said of. */
export async function readWatermarks(clickhouse: ClickHouse): Promise<Watermarks> {
  return toWatermarks(await clickhouse.query(SQL, {}, { settings: { max_threads: 1 } }));
}

/** Says that everything `source` committed before `at` is in the store. Never goes back: the table keeps the highest. Throws StoreUnavailable. */
export async function writeWatermark(clickhouse: ClickHouse, source: Source, at: Date): Promise<void> {
  await clickhouse.insert("watermarks", ["source", "at"], [[source, toClickHouse(at.getTime())]]);
}

/** The time before which every source is complete; undefined while one of them is not known yet. */
export function asOf(watermarks: Watermarks): Date | undefined {
  const { user, session } = watermarks;
  if (!user || !session) return undefined;
  return new Date(Math.min(user.getTime(), session.getTime()));
}
