import { type Dependency, type Metrics, observePool, observeStore } from "@quartet/service";
import type { Redis } from "ioredis";

/** What Redis says of its memory, which is where its data is; `maxmemory` 0 is no limit. And the connections, each of which carries many commands at a time. */
export function observeRedis(metrics: Metrics, dependency: Dependency, connections: Redis[]): void {
  const [first] = connections as [Redis, ...Redis[]];
  observeStore(metrics, "redis", async () => {
    const info = await dependency.run(() => first.info("memory"));
    const read = (field: string) => Number(new RegExp(`^${RegExp.escape(field)}:(\\d+)`, "m").exec(info)?.[1] ?? 0);
    const [size, capacity] = [read("used_memory"), read("maxmemory")];
    return capacity > 0 ? { size, capacity, available: Math.max(0, capacity - size) } : { size };
  });
  observePool(metrics, "redis", () => ({
    idle: 0,
    used: connections.filter((redis) => redis.status === "ready").length,
    max: connections.length,
    waiting: connections.filter((redis) => redis.status !== "ready").length,
  }));
}
