import { setTimeout as sleep } from "node:timers/promises";
import type { Target } from "./system.ts";

/** Requests by the thousand, for what wants many people or many events and not many clients. */
const BATCH = 1_000;
const AT_ONCE = 4;
const CATCH_UP_MS = 3_600_000;

/** Imports `count` people; with the same keys again it changes them. */
export async function importPeople(
  target: Target,
  count: number,
  person: (index: number) => object,
): Promise<{ id: string; revision: number }[]> {
  const all: { id: string; revision: number }[] = [];
  await batches(count, async (from, to) => {
    const users = Array.from({ length: to - from }, (_, i) => person(from + i));
    const { users: done } = (await post(target, "/v1/admin/import", { users })) as { users: typeof all };
    all.push(...done);
  });
  return all;
}

/** Calls `work` for every range of a thousand, a few at a time. */
export async function batches(
  count: number,
  work: (from: number, to: number, index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next * BATCH < count) {
      const index = next++;
      await work(index * BATCH, Math.min(count, (index + 1) * BATCH), index);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** Sends until it is acknowledged: what is sent has ids or keys, so that again is the same. */
export async function post(target: Target, path: string, body: object): Promise<unknown> {
  for (let attempt = 0; ; attempt++) {
    const response = await fetch(target.url + path, {
      method: "POST",
      headers: { authorization: `Bearer ${target.operatorToken}`, "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(60_000),
    }).catch(() => undefined);
    const text = await response?.text().catch(() => undefined);
    if (response?.ok && text !== undefined) return JSON.parse(text);
    if (response && response.status < 500 && response.status !== 429)
      throw new Error(`${path} answers ${response.status}: ${text}`);
    if (attempt >= 200) throw new Error(`${path} is refused for ever: ${response?.status}`);
    await sleep(Math.min(2_000, 100 * (attempt + 1)));
  }
}

/** Asks until it is answered. */
export async function get(target: Target, path: string): Promise<unknown> {
  for (let attempt = 0; ; attempt++) {
    const headers = { authorization: `Bearer ${target.operatorToken}` };
    const response = await fetch(target.url + path, { headers, signal: AbortSignal.timeout(10_000) }).catch(
      () => undefined,
    );
    if (response?.ok) return response.json();
    if (attempt >= 100) throw new Error(`${path} answers ${response?.status}`);
    await sleep(200);
  }
}

/** Waits until every projector is true as of `moment` (ms since 1970). */
export async function caughtUp(target: Target, moment: number): Promise<void> {
  const deadline = Date.now() + CATCH_UP_MS;
  for (;;) {
    const { projectors } = (await get(target, "/v1/admin/status")) as {
      projectors: Record<string, { asOf: string | null }>;
    };
    const behind = Object.values(projectors).filter((p) => !p.asOf || Date.parse(p.asOf) < moment);
    if (behind.length === 0) return;
    if (Date.now() > deadline) throw new Error("the projectors did not catch up within an hour");
    await sleep(500);
  }
}
