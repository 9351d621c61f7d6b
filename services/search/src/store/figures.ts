import type { Client } from "@elastic/elasticsearch";
import { type Dependency, type Metrics, observePool, observeStore } from "@quartet/service";
import type { IndexNames } from "./indexes.ts";

/** The connection pool of undici inside the client; undefined where a version keeps it elsewhere. */
interface Transport {
  connections: { pool?: { stats?: { connected: number; free: number; running: number; queued: number } } }[];
}

/** What Elasticsearch says of its disks and our indices, and the client's connections. */
export function observeElasticsearch(
  metrics: Metrics,
  client: Client,
  elasticsearch: Dependency,
  names: IndexNames,
): void {
  observeStore(metrics, "elasticsearch", () =>
    elasticsearch.run(async () => {
      const [nodes, indices] = await Promise.all([
        client.nodes.stats({ metric: "fs", filter_path: "nodes.*.fs.total" }),
        client.indices.stats({ index: `${names.users}*`, metric: "store", filter_path: "_all.total.store" }),
      ]);
      const disks = Object.values(nodes.nodes ?? {}).map((node) => node.fs?.total);
      const sum = (read: (d: (typeof disks)[number]) => number | undefined) =>
        disks.reduce((total, disk) => total + (read(disk) ?? 0), 0);
      return {
        size: indices._all?.total?.store?.size_in_bytes ?? 0,
        capacity: sum((disk) => disk?.total_in_bytes),
        available: sum((disk) => disk?.available_in_bytes),
      };
    }),
  );
  const pools = (client.connectionPool as unknown as Transport).connections;
  observePool(metrics, "elasticsearch", () => {
    const stats = pools.flatMap(({ pool }) => pool?.stats ?? []);
    const sum = (name: "connected" | "free" | "running" | "queued") => stats.reduce((total, s) => total + s[name], 0);
    return { idle: sum("free"), used: sum("running"), max: MOST_CONNECTIONS, waiting: sum("queued") };
  });
}

/** The client's default. */
const MOST_CONNECTIONS = 256;
