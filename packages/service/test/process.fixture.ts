import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import {
  commonConfig,
  createApi,
  createLogger,
  finishApi,
  loadConfig,
  runProcess,
  superviseWorker,
} from "../src/index.ts";

// A small service for process.test.ts: one slow call, one worker that needs a moment to stop, one way to crash.
const config = loadConfig(z.object({ ...commonConfig(0) }));
await runProcess({
  name: "fixture",
  config,
  start: ({ logger }) => {
    const app = createApi({ name: "fixture", logger: createLogger("fixture", "warn") });
    app.get("/slow", async (_req, res) => {
      process.stdout.write("slow began\n");
      await sleep(500);
      res.json({ done: true });
    });
    app.get("/crash", (_req, res) => {
      res.end();
      void Promise.reject(new Error("nobody caught me"));
    });
    const worker = superviseWorker(
      "loop",
      async (signal) => {
        await new Promise((done) => signal.addEventListener("abort", done));
        await sleep(50);
        process.stdout.write("worker flushed\n");
      },
      { logger },
    );
    return {
      app: finishApi(app),
      ready: () => {},
      workers: [worker],
      close: () => void process.stdout.write("pools closed\n"),
    };
  },
});
