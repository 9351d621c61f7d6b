import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEngine } from "./create.ts";
import type { Engine, LocalEngine } from "./engine.ts";
import type { EngineName } from "./platform.ts";

/** An engine of a test: started, on a random port, with its data in a folder of its own. */
export interface TestEngine extends Engine {
  readonly home: string;
  /** Kills it and removes its folder. Happens by itself when the process ends. */
  dispose(): Promise<void>;
}

const living = new Set<() => void>();

process.on("exit", () => {
  for (const end of living) end();
});

/**
 * Starts a private engine for a test: `const nats = await createTestEngine("nats")`, and `await nats.dispose()` in the end. Give `home`
 * (of another test engine) to share its credentials. It dies with this process, whatever ends it.
 */
export async function createTestEngine(name: EngineName, options: { home?: string } = {}): Promise<TestEngine> {
  const home = options.home ?? mkdtempSync(join(tmpdir(), `quartet-${name}-`));
  const engine = createEngine(name, { home, randomPort: true, disposable: true, dieWithParent: true }) as LocalEngine;
  const end = () => {
    engine.killNow();
    rmSync(options.home ? engine.dir : home, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  };
  living.add(end);
  const dispose = async () => {
    await engine.kill();
    end();
    living.delete(end);
  };
  try {
    await engine.start();
  } catch (error) {
    await dispose();
    throw error;
  }
  return Object.assign(engine, { home, dispose });
}
