import { setTimeout as sleep } from "node:timers/promises";
import { remembered } from "@quartet/service";
import type { ClickHouse } from "./client.ts";
import { countedAmong } from "./facts.ts";
import { readWatermarks, type Watermarks } from "./watermarks.ts";

/** What requests that wait for a write ask again and again, asked of the store once for all of them. */
export interface Looks {
  /** Whether all these fact ids are counted. */
  counted(ids: string[]): Promise<boolean>;
  /** At most 100 ms old: a slightly older claim is still true. */
  watermarks(): Promise<Watermarks>;
}

const CACHED_MS = 100;
/** Whoever asks within this after an answer shares the next question. */
const SPACING_MS = 40;
/** Who share one question; each asks for a few ids. */
const AT_MOST = 100;

interface Asked {
  ids: string[];
  resolve(all: boolean): void;
  reject(error: unknown): void;
}

export function createLooks(clickhouse: ClickHouse): Looks {
  const waiting: Asked[] = [];
  let asking = false;
  let answered = Number.NEGATIVE_INFINITY;
  const ask = async (): Promise<void> => {
    asking = true;
    while (waiting.length > 0) {
      const pause = answered + SPACING_MS - performance.now();
      if (pause > 0) await sleep(pause);
      const now = waiting.splice(0, AT_MOST);
      try {
        const found = await countedAmong(clickhouse, [...new Set(now.flatMap(({ ids }) => ids))]);
        for (const { ids, resolve } of now) resolve(ids.every((id) => found.has(id)));
      } catch (error) {
        for (const { reject } of now) reject(error);
      }
      answered = performance.now();
    }
    asking = false;
  };

  return {
    counted: (ids) =>
      new Promise((resolve, reject) => {
        waiting.push({ ids, resolve, reject });
        if (!asking) void ask();
      }),
    watermarks: remembered(CACHED_MS, () => readWatermarks(clickhouse)),
  };
}
