import { defineConfig } from "vitest/config";
import { closingLine } from "./test/lib/closing-line.ts";

/**
 * Quartet on the cluster of the current kubecontext, in namespaces that the tests make and remove. The images must be there already; VALUES names a
 * file with what this cluster needs, QUARTET_TEST_KEEP leaves everything as it is at the end.
 */
export default defineConfig({
  test: {
    include: ["test/cluster/**/*.test.ts"],
    // Every command of the pages, with each Helm that is here: a quarter of an hour more, by `npm run cluster:test:long`.
    exclude: process.env.QUARTET_CLUSTER_LONG ? [] : ["test/cluster/documented.test.ts"],
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 480_000,
    teardownTimeout: 60_000,
    reporters: ["verbose", closingLine()],
  },
});
