import { defineConfig } from "vitest/config";

// Engines are started once per run (test/engines.setup.ts) and the files run one after another: two cores, five real engines.
export default defineConfig({
  test: {
    include: ["packages/*/test/**/*.test.ts", "services/*/test/**/*.test.ts", "test/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    reporters: ["default"],
  },
});
