import { defineConfig } from "vitest/config";
import { closingLine } from "./test/lib/closing-line.ts";

/** What takes too long for every run: half a million people, a slot blocked for minutes. By hand: `npm run test:long`. Each file starts what it needs. */
export default defineConfig({
  test: {
    include: ["test/long/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 1_800_000,
    hookTimeout: 480_000,
    teardownTimeout: 60_000,
    reporters: ["verbose", closingLine()],
  },
});
