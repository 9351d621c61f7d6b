import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { createFairQueue, type FairQueueOptions, type Turn } from "../src/index.ts";

/** An answer as the queue sees one. */
class Answer extends EventEmitter {
  closed = false;
  close(): void {
    this.closed = true;
    this.emit("close");
  }
}
const answer = () => new Answer() as Answer & Turn["res"];

/** A queue whose jobs end when the test says so; `begun` are those that were, in order. */
function world(options: Partial<FairQueueOptions> = {}) {
  const queue = createFairQueue({ name: "work", slots: 1, perClient: 4, total: 8, waitMs: 60_000, ...options });
  const begun: string[] = [];
  const ends: (() => void)[] = [];
  const ask = (client: string, n = 0, turn: Partial<Turn> = {}): Promise<string> =>
    queue
      .run({ client, res: answer(), ...turn }, () => {
        begun.push(`${client}${n}`);
        return new Promise<string>((resolve) => ends.push(() => resolve("done")));
      })
      .catch((error: { status?: number }) => String(error.status));
  const finish = async (): Promise<void> => {
    ends.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { queue, begun, ask, finish };
}

describe("a fair queue", () => {
  it("lets the lines of the clients take turns", async () => {
    const { queue, begun, ask, finish } = world();
    const all = [0, 1, 2, 3]
      .map((n) => ask("a", n))
      .concat(
        [0, 1].map((n) => ask("b", n)),
        ask("c"),
      );
    for (let i = 0; i < all.length; i++) await finish();
    expect(await Promise.all(all)).toEqual(Array(7).fill("done"));
    expect(begun).toEqual(["a0", "a1", "b0", "c0", "a2", "b1", "a3"]);
    expect(queue.waiting).toBe(0);
  });

  it("refuses more of one client with 429, and for one more in all the newest of the longest line with 503", async () => {
    const { queue, begun, ask, finish } = world({ total: 6 });
    const a = [0, 1, 2, 3, 4, 5].map((n) => ask("a", n));
    expect(await a[5]).toBe("429");
    const b = [0, 1].map((n) => ask("b", n));
    expect(queue.waiting).toBe(6);
    const c = ask("c");
    expect(await a[4]).toBe("503");
    // Now the two longest lines are as long as a's would be.
    const d = [ask("d"), ask("b", 2)];
    expect(await Promise.all([a[3], d[1]])).toEqual(["503", "503"]);
    expect(queue.waiting).toBe(6);
    for (let i = 0; i < 7; i++) await finish();
    expect(await Promise.all([...a.slice(0, 3), ...b, c, d[0]])).toEqual(Array(7).fill("done"));
    expect(begun).toEqual(["a0", "a1", "b0", "c0", "d0", "a2", "b1"]);
  });

  it("begins nothing for who went away or waited too long", async () => {
    const { queue, begun, ask, finish } = world();
    const first = ask("a", 0);
    const res = answer();
    const left = ask("a", 1, { res });
    const late = ask("b", 0, { waitMs: 1 });
    const stays = ask("a", 2);
    res.close();
    expect(await Promise.all([left, late, ask("c", 0, { res })])).toEqual(["499", "503", "499"]);
    expect(queue.waiting).toBe(1);
    await finish();
    await finish();
    expect(await Promise.all([first, stays])).toEqual(["done", "done"]);
    expect(begun).toEqual(["a0", "a2"]);
    expect(res.listenerCount("close")).toBe(0);
  });
});
