import { defineConfig } from "vitest/config";
import { wholeSystem } from "./test/lib/whole-system.ts";

/** The whole system on its real engines, as a client sees it. QUARTET_URL and QUARTET_OPERATOR_TOKEN point it at another one. */
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/cluster/**", "test/chaos/**", "test/rebuild/**", "test/long/**", "**/node_modules/**"],
    ...wholeSystem,
  },
});
