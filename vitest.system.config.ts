import { defineConfig } from "vitest/config";
import { closingLine } from "./test/lib/closing-line.ts";

/** The whole system on its real engines, as a client sees it. QUARTET_URL and QUARTET_OPERATOR_TOKEN point it at another one. */
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/cluster/**", "test/chaos/**", "test/rebuild/**", "**/node_modules/**"],
    globalSetup: ["test/lib/setup.ts"],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 480_000,
    teardownTimeout: 60_000,
    reporters: ["default", closingLine()],
  },
});
