import { setTimeout as sleep } from "node:timers/promises";
import type { RebuildState } from "@quartet/contracts";
import { call, findSystem, RequestFailed, UsageError } from "./client.ts";
import { Progress } from "./progress.ts";

const STORES = ["search", "session", "analytics"];
const USAGE = `Usage: npm run rebuild -- ${STORES.join("|")}`;

/**
 * `npm run rebuild -- search|session|analytics`: has a derived store filled anew from the log while it serves, and shows how far that is. The services do it by
 * themselves: a command that is killed and given again goes on watching the same rebuild.
 */
export async function main(args: string[]): Promise<void> {
  const [store] = args;
  if (!store || args.length > 1 || !STORES.includes(store)) throw new UsageError(USAGE);
  const system = findSystem();
  const path = `/v1/admin/rebuilds/${store}`;
  const bar: { shown?: Progress } = {};
  const onWait = (reason: string) => bar.shown?.waiting(reason);
  try {
    await call(system, "POST", "/v1/admin/rebuilds", { body: { store }, onWait });
  } catch (error) {
    if (!(error instanceof RequestFailed) || error.status !== 409) throw error;
    console.log(`A rebuild of ${store} is under way: no second one is started, this shows the first.`);
  }
  let state = (await call(system, "GET", path, { onWait })).body as RebuildState;
  let done = 0;
  while (state.state === "running") {
    if (state.total > 0) {
      bar.shown ??= new Progress(`rebuild ${store}`, state.total);
      bar.shown.add(Math.max(0, state.done - done));
      done = Math.max(done, state.done);
    }
    await sleep(250);
    state = (await call(system, "GET", path, { onWait })).body as RebuildState;
  }
  bar.shown?.stop();
  const { startedAt, finishedAt } = state;
  const seconds = startedAt && finishedAt ? (Date.parse(finishedAt) - Date.parse(startedAt)) / 1000 : 0;
  console.log(`${store} is rebuilt: ${seconds.toFixed(1)} s.`);
}
