import { EventEmitter } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { ClientGone, createWaiters } from "../src/index.ts";

/** A response as the waiters see one. */
class Answer extends EventEmitter {
  closed = false;
  close(): void {
    this.closed = true;
    this.emit("close");
  }
}
const answer = () => new Answer() as Answer & Parameters<ReturnType<typeof createWaiters>["until"]>[1]["res"];

describe("readers who wait", () => {
  it("ask the store together, and each is told when its own wish is there", async () => {
    let reached = 0;
    const looks: number[] = [];
    const waiters = createWaiters<number>({
      max: 1000,
      perLook: 1000,
      look: async (wishes) => {
        looks.push(wishes.length);
        reached++;
        return wishes.map((wish) => wish <= reached);
      },
    });
    const told: number[] = [];
    await Promise.all(
      Array.from({ length: 400 }, async (_, i) => {
        const wish = 1 + (i % 4);
        expect(await waiters.until(wish, { waitMs: 10_000, res: answer() })).toBe(true);
        told.push(wish);
      }),
    );
    expect(looks).toEqual([400, 300, 200, 100]);
    expect(told).toEqual([...told].sort());
    expect(waiters.waiting).toBe(0);
  });

  it("come late to a look that runs, and are asked about in the next", async () => {
    const begun = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    const looks: string[][] = [];
    const waiters = createWaiters<string>({
      max: 10,
      everyMs: 0,
      look: async (wishes) => {
        looks.push(wishes);
        begun.resolve();
        await go.promise;
        return wishes.map(() => true);
      },
    });
    const first = waiters.until("a", { waitMs: 0, res: answer() });
    await begun.promise;
    const others = ["b", "c"].map((wish) => waiters.until(wish, { waitMs: 0, res: answer() }));
    go.resolve();
    expect(await Promise.all([first, ...others])).toEqual([true, true, true]);
    expect(looks).toEqual([["a"], ["b", "c"]]);
  });

  it("are looked for a bounded number at a time, the new ones first", async () => {
    const looks: number[][] = [];
    const waiters = createWaiters<number>({
      max: 100,
      perLook: 10,
      everyMs: 0,
      look: async (wishes) => {
        looks.push(wishes);
        return wishes.map((wish) => looks.flat().filter((one) => one === wish).length >= 2);
      },
    });
    const all = Array.from({ length: 25 }, (_, i) => waiters.until(i, { waitMs: 10_000, res: answer() }));
    expect(await Promise.all(all)).toEqual(all.map(() => true));
    expect(Math.max(...looks.map((look) => look.length))).toBe(10);
    expect(new Set(looks.slice(0, 2).flat()).size).toBe(20);
  });

  it("are at most so many: one more is told no at once, without a look", async () => {
    let looks = 0;
    const waiters = createWaiters<number>({
      max: 5,
      look: async (wishes) => {
        looks++;
        return wishes.map(() => false);
      },
    });
    const some = Array.from({ length: 5 }, answer);
    const waiting = some.map((res, i) => waiters.until(i, { waitMs: 10_000, res }));
    expect(waiters.waiting).toBe(5);
    expect(await waiters.until(5, { waitMs: 10_000, res: answer() })).toBe(false);
    expect(looks).toBe(0);
    for (const res of some) res.close();
    for (const one of waiting) await expect(one).rejects.toThrow(ClientGone);
  });

  it("leave when their client goes, and nothing of them stays", async () => {
    let looks = 0;
    const waiters = createWaiters<number>({
      max: 5,
      look: async (wishes) => {
        looks++;
        return wishes.map(() => false);
      },
    });
    const res = answer();
    const waiting = waiters.until(1, { waitMs: 10_000, res });
    while (looks < 2) await sleep(1);
    res.close();
    await expect(waiting).rejects.toThrow(ClientGone);
    expect([waiters.waiting, res.listenerCount("close")]).toEqual([0, 0]);
    const then = looks;
    await sleep(100);
    expect(looks).toBe(then);
    await expect(waiters.until(1, { waitMs: 10, res })).rejects.toThrow(ClientGone);
  });

  it("look once more at the end of the wait, and are not held up by a store that hangs then", async () => {
    let looks = 0;
    const waiters = createWaiters<number>({
      max: 5,
      look: (wishes) => (++looks < 3 ? Promise.resolve(wishes.map(() => false)) : new Promise(() => {})),
    });
    expect(await waiters.until(1, { waitMs: 300, res: answer() })).toBe(false);
    expect([looks, waiters.waiting]).toEqual([3, 0]);
  });

  it("are all told of a store that does not answer, those too who came while it was asked", async () => {
    const begun = Promise.withResolvers<void>();
    const failing = Promise.withResolvers<boolean[]>();
    const waiters = createWaiters<number>({
      max: 5,
      look: () => {
        begun.resolve();
        return failing.promise;
      },
    });
    const first = waiters.until(1, { waitMs: 1000, res: answer() });
    await begun.promise;
    const second = waiters.until(2, { waitMs: 1000, res: answer() });
    failing.reject(new Error("no store"));
    await expect(first).rejects.toThrow("no store");
    await expect(second).rejects.toThrow("no store");
    expect(waiters.waiting).toBe(0);
  });
});
