import { setTimeout as sleep } from "node:timers/promises";

/** Gives up waiting for `work` after `ms` with an error that names who did not answer; the work itself goes on. For a question in the name of a request. */
export function soon<T>(ms: number, who: string, work: Promise<T>): Promise<T> {
  const giveUp = new AbortController();
  const late = sleep(ms, undefined, { signal: giveUp.signal }).then(() => {
    throw new Error(`${who} did not answer within ${ms} ms`);
  });
  late.catch(() => {});
  work.catch(() => {});
  return Promise.race([work, late]).finally(() => giveUp.abort());
}
