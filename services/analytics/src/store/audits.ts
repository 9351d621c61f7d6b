import type { ClickHouse } from "./client.ts";
import { toClickHouse } from "./time.ts";

/** What one round of the audit found. */
export interface AuditFinding {
  /** Rows compared. */
  compared: number;
  drift: number;
  mended: number;
  /** Whose facts drifted (null: nobody's, or not to be told any more) and how. Kept in memory only: an erasure must not find them in a table. */
  users: { id: string | null; kind: string }[];
  startedAt: string;
  checkedAt: string;
}

/** Leaves the figures for every process of this service. */
export async function saveFinding(clickhouse: ClickHouse, finding: AuditFinding): Promise<void> {
  const at = (iso: string) => toClickHouse(Date.parse(iso));
  await clickhouse.insert(
    "audits",
    ["store", "compared", "drift", "mended", "started_at", "checked_at"],
    [["analytics", finding.compared, finding.drift, finding.mended, at(finding.startedAt), at(finding.checkedAt)]],
  );
}

/** The figures of the last round of any process. 503 if the store is away. */
export async function lastFinding(clickhouse: ClickHouse): Promise<AuditFinding | undefined> {
  const [row] = await clickhouse.query<Record<"compared" | "drift" | "mended" | "s" | "c", number>>(
    `SELECT compared, drift, mended, toUnixTimestamp64Milli(started_at) AS s, toUnixTimestamp64Milli(checked_at) AS c
       FROM audits FINAL WHERE store = 'analytics'`,
  );
  if (!row) return undefined;
  const { compared, drift, mended, s, c } = row;
  return {
    compared,
    drift,
    mended,
    users: [],
    startedAt: new Date(s).toISOString(),
    checkedAt: new Date(c).toISOString(),
  };
}
