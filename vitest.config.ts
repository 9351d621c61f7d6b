import { defineConfig } from "vitest/config";
import { closingLine } from "./test/lib/closing-line.ts";

/** Packages and services, each against the real engine it uses. One file after another: two cores must carry five engines. */
export default defineConfig({
  test: {
    include: ["chaos/test/**/*.test.ts", "packages/*/test/**/*.test.ts", "services/*/test/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 480_000,
    teardownTimeout: 30_000,
    reporters: ["default", closingLine()],
  },
});
