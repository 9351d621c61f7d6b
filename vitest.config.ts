import { defineConfig } from "vitest/config";
import { closingLine } from "./test/lib/closing-line.ts";

/** Packages and services, each against a real engine of its own. Two files at a time: most of them wait for something most of the time. */
export default defineConfig({
  test: {
    include: ["chaos/test/**/*.test.ts", "packages/*/test/**/*.test.ts", "services/*/test/**/*.test.ts"],
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 480_000,
    teardownTimeout: 30_000,
    reporters: ["default", closingLine()],
  },
});
