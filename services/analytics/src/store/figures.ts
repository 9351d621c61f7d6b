import { type Metrics, observePool, observeStore } from "@quartet/service";
import type { ClickHouse } from "./client.ts";

const FIGURES = `
SELECT (SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()) AS size,
       sum(total_space) AS capacity, sum(unreserved_space) AS available
FROM system.disks`;

/** What ClickHouse says of its disks, and how many heavy queries run and wait. */
export function observeClickHouse(metrics: Metrics, clickhouse: ClickHouse): void {
  observeStore(metrics, "clickhouse", async () => {
    const [row] = await clickhouse.query<{ size: number; capacity: number; available: number }>(FIGURES);
    return row ?? {};
  });
  observePool(metrics, "clickhouse", clickhouse.turns);
}
