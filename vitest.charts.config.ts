import { defineConfig } from "vitest/config";

/** The charts as they render: no cluster, no engine. Helm comes from the registry once, into the cache. */
export default defineConfig({
  test: { include: ["test/charts/**/*.test.ts"], testTimeout: 60_000, hookTimeout: 180_000 },
});
