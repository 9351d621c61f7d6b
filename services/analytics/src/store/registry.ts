import { ERASED_PAGE, type ErasedPerson, type RegistryState } from "@quartet/contracts";
import type { ClickHouse } from "./client.ts";

/**
 * The registry of the erased: `erased` has their hashes, for ever, and `receipts` the receipt of each erasure for as long as a backup may hold the person. It
 * remembers for User who was erased, outside User's own database and the log (docs/decisions/0007).
 */

type Receipt = NonNullable<ErasedPerson["receipt"]>;

/** The columns of `receipts` and what they are called between services. */
const TIMES = {
  requested_at: "requestedAt",
  session_at: "sessionAt",
  search_at: "searchAt",
  analytics_at: "analyticsAt",
  completed_at: "completedAt",
  gone_by: "goneBy",
} as const satisfies Record<string, keyof Receipt>;

/** A receipt without a term is kept. */
const NEVER = "2106-01-01T00:00:00Z";
/** User asks for all of them after a restore, page by page, and has time. */
const PAGE = { timeoutMs: 4_000, personal: true } as const;
const hashesIn = (column: string) =>
  `${column} IN (SELECT arrayJoin(arrayMap(h -> toFixedString(unhex(h), 32), {hashes:Array(String)})))`;

/** What tells this registry from one that was made anew, and from an older state of itself. 503 if the store does not answer. */
export async function registryState(clickhouse: ClickHouse): Promise<RegistryState> {
  const [row] = await clickhouse.query<RegistryState>(
    `SELECT toString(uuid) AS id, (SELECT max(written) FROM receipts) AS latest
       FROM system.tables WHERE database = currentDatabase() AND name = 'receipts'`,
  );
  return { id: row?.id ?? "none", latest: row?.latest ?? 0 };
}

/** Remembers these people and their receipts, durably. 503 if the store does not. */
export async function recordReceipts(clickhouse: ClickHouse, people: ErasedPerson[]): Promise<void> {
  if (people.length === 0) return;
  const hashes = people.map(({ hash }) => hash);
  const erased = "INSERT INTO erased (user_hash) SELECT arrayJoin(arrayMap(h -> unhex(h), {hashes:Array(String)}))";
  await clickhouse.command(erased, { hashes }, PAGE);
  const known = people.flatMap(({ hash, receipt }) => (receipt ? [{ hash, receipt }] : []));
  if (known.length === 0) return;
  const columns = Object.keys(TIMES);
  const times = Object.entries(TIMES).map(([column, field]) => [column, known.map((p) => p.receipt[field] ?? "")]);
  await clickhouse.command(
    `INSERT INTO receipts (user_hash, id, ${columns.join(", ")}, kept_until, written)
     SELECT unhex(hash), id, ${columns.map((c) => `parseDateTime64BestEffortOrNull(${c}, 3, 'UTC')`).join(", ")},
            parseDateTimeBestEffort(if(gone_by = '', '${NEVER}', gone_by), 'UTC'), toUnixTimestamp64Milli(now64(3))
       FROM (SELECT 1) ARRAY JOIN {hashes:Array(String)} AS hash, {ids:Array(String)} AS id,
            ${columns.map((c) => `{${c}:Array(String)} AS ${c}`).join(", ")}`,
    {
      hashes: known.map(({ hash }) => hash),
      ids: known.map(({ receipt }) => receipt.id),
      ...Object.fromEntries(times),
    },
    PAGE,
  );
}

/**
 * Who was recorded at `since` or later, or ever: ERASED_PAGE at most, by hash, after `after`. One that is recorded again counts as new, so more may be said
 * than was asked for, never less.
 */
export async function erasedPage(
  clickhouse: ClickHouse,
  { since, after }: { since?: string | undefined; after?: string | undefined },
): Promise<ErasedPerson[]> {
  const found = await clickhouse.query<{ hash: string }>(
    `SELECT DISTINCT lower(hex(user_hash)) AS hash FROM erased
      WHERE user_hash > toFixedString(unhex({after:String}), 32) AND erased_at >= parseDateTime64BestEffort({since:String}, 3, 'UTC')
      ORDER BY hash LIMIT ${ERASED_PAGE}`,
    { after: after ?? "0".repeat(64), since: since ?? "1970-01-01T00:00:00Z" },
    PAGE,
  );
  const hashes = found.map(({ hash }) => hash);
  const iso = (column: string) => `concat(replaceOne(toString(${column}, 'UTC'), ' ', 'T'), 'Z')`;
  const rows = await clickhouse.query<Receipt & { hash: string }>(
    `SELECT lower(hex(user_hash)) AS hash, id, ${Object.entries(TIMES)
      .map(([column, field]) => `${iso(column)} AS ${field}`)
      .join(", ")}
       FROM receipts FINAL WHERE ${hashesIn("user_hash")}`,
    { hashes },
    PAGE,
  );
  const receipts = new Map(rows.map(({ hash, ...receipt }) => [hash, receipt]));
  return hashes.map((hash) => ({ hash, receipt: receipts.get(hash) ?? null }));
}
