import { expect, test } from "vitest";
import { createLogger, every, metrics, superviseWorker, watchTask } from "../src/index.ts";

function recorder() {
  const logger = createLogger("test", "silent");
  const lines: { level: string; context: Record<string, unknown>; message: string }[] = [];
  for (const level of ["info", "warn"] as const) {
    logger[level] = ((context: Record<string, unknown>, message: string) =>
      lines.push({ level, context, message })) as never;
  }
  return { logger, lines };
}

const failing = async (task: string) => {
  const { values } = await metrics.gauge("quartet_background_task_failing").get();
  return values.find(({ labels }) => labels.task === task)?.value;
};

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await what())) await new Promise((resolve) => setTimeout(resolve, 5));
}

test("a task that fails for longer than it may is told once, with the last reason, and again when it works", async () => {
  const { logger, lines } = recorder();
  const watch = watchTask("painting", { logger, patienceMs: 30 });
  expect(await failing("painting")).toBe(0);
  // In and out again in time: nobody is told.
  watch.failed(new Error("no brush"));
  watch.ok();
  watch.failed(new Error("no brush"));
  watch.failed(new Error("no paint"));
  await until(async () => (await failing("painting")) === 1);
  watch.failed(new Error("no wall"));
  watch.failed(new Error("no wall"));
  expect(lines).toMatchObject([{ level: "warn", context: { task: "painting", reason: "Error: no paint" } }]);
  watch.ok();
  expect(await failing("painting")).toBe(0);
  expect(lines.map((line) => line.level)).toEqual(["warn", "info"]);
});

test("a loop goes on over failures, and a mistake ends it for its supervisor to tell, once", async () => {
  const { logger, lines } = recorder();
  let runs = 0;
  const work = async () => {
    runs++;
    if (runs > 5) throw new TypeError("a mistake");
    throw new Error("away");
  };
  const options = { logger, patienceMs: 5, isMistake: (error: unknown) => error instanceof TypeError };
  const worker = superviseWorker("sweeping", every("sweeping", 1, work, options), {
    logger,
    backoff: { initialMs: 1, maxMs: 2 },
  });
  await until(() => runs > 20);
  await until(async () => (await failing("sweeping")) === 1);
  await worker.stop();
  const told = lines.filter((line) => line.level === "warn").map((line) => line.message);
  expect(told.sort()).toEqual(["background task fails and goes on trying", "worker ended, starting it again"]);
});
