import { defineConfig } from "vitest/config";
import { closingLine } from "./test/lib/closing-line.ts";

/** That the chaos suite can fail: it must turn red on a system with a defect switched on. Starts systems of its own. */
export default defineConfig({
  test: {
    include: ["test/chaos/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 480_000,
    teardownTimeout: 60_000,
    reporters: ["default", closingLine()],
  },
});
