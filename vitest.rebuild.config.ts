import { defineConfig } from "vitest/config";
import { closingLine } from "./test/lib/closing-line.ts";

/** Rebuilds and audits on a system of their own: they kill services while people are erased by the dozen, and leave a backlog of receipts. */
export default defineConfig({
  test: {
    include: ["test/rebuild/**/*.test.ts"],
    globalSetup: ["test/lib/setup.ts"],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 480_000,
    teardownTimeout: 60_000,
    reporters: ["default", closingLine()],
  },
});
