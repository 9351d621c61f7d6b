import { defineConfig } from "vitest/config";
import { wholeSystem } from "./test/lib/whole-system.ts";

/** Rebuilds and audits on a system of their own: they kill services while people are erased by the dozen, and leave a backlog of receipts. */
export default defineConfig({
  test: {
    include: ["test/rebuild/**/*.test.ts"],
    ...wholeSystem,
  },
});
