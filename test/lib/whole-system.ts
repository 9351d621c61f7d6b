import { closingLine } from "./closing-line.ts";

/** What the suites share that start one system and use it file by file. */
export const wholeSystem = {
  globalSetup: ["test/lib/setup.ts"],
  fileParallelism: false,
  testTimeout: 120_000,
  hookTimeout: 480_000,
  teardownTimeout: 60_000,
  reporters: ["default" as const, closingLine()],
};
