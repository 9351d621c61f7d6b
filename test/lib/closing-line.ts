import type { Reporter, TestModule } from "vitest/node";

/** Prints `N passed, N failed, N skipped` alone on the last line, for whoever reads a log by machine. */
export function closingLine(): Reporter {
  return {
    onTestRunEnd(modules: readonly TestModule[], unhandled) {
      const count = { passed: 0, failed: 0, skipped: 0 };
      for (const module of modules) {
        let tests = 0;
        for (const test of module.children.allTests()) {
          const { state } = test.result();
          if (state !== "pending") count[state]++;
          tests++;
        }
        if (tests === 0 && module.state() === "failed") count.failed++;
      }
      count.failed += unhandled.length;
      console.log(`\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
    },
  };
}
