import { defineConfig } from "vitest/config";
import { closingLine } from "./test/lib/closing-line.ts";

/** The chaos suite itself: that its checker can fail, in itself and on a system with defects switched on. Starts systems of its own. */
export default defineConfig({
  test: {
    include: ["chaos/test/**/*.test.ts", "test/chaos/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 480_000,
    teardownTimeout: 60_000,
    reporters: ["default", closingLine()],
  },
});
