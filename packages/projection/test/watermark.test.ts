import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { DeliveryRuns } from "../src/deliveries.ts";
import type { ProjectorOptions } from "../src/index.ts";
import {
  type Bench,
  contents,
  heartbeat,
  makeStream,
  project,
  publishAll,
  startBench,
  state,
  stopAll,
  type TestEvent,
  until,
  upsert,
} from "./support.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await startBench();
});
afterEach(stopAll);
afterAll(() => bench.end());

const settle = () => new Promise((resolve) => setTimeout(resolve, 400));

/** A door in front of the store. */
function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

interface Claim {
  source: string;
  at: Date;
  /** What the store held when the claim was made. */
  store: Record<string, { version: number }>;
}

/** A projector whose claims are kept together with what the store held at that moment. */
function claiming(stream: string, more: Partial<ProjectorOptions<TestEvent>> = {}) {
  const claims: Claim[] = [];
  const running = project(bench, stream, {
    heartbeat: {
      onWatermark: async (source, at) => {
        claims.push({ source, at, store: await contents(bench.db, stream) });
      },
    },
    ...more,
  });
  return { ...running, claims };
}

/**
 * The danger. State v1 was committed before the heartbeat, so a claim of the heartbeat promises v1 or newer. Before it is read, v2 supersedes it:
 * v1 vanishes below the heartbeat, v2 lies above it. While v2 waits in front of the store, v3 makes it vanish from the server's books as well.
 */
async function supersededInHand(unsafe: ProjectorOptions<TestEvent>["unsafe"]) {
  const stream = await makeStream(bench, "compacted");
  const door = gate();
  let waiting = false;
  await publishAll(bench, [state(stream, "a", 1)]);
  await publishAll(bench, [heartbeat(stream, "user", new Date())]);
  await publishAll(bench, [state(stream, "a", 2)]);
  const running = claiming(stream, {
    ...(unsafe ? { unsafe } : {}),
    batch: { max: 1 },
    stopGraceMs: 50,
    apply: async (batch) => {
      waiting = true;
      await door.opened;
      return upsert(bench.db, stream, batch);
    },
  });
  await until("v2 in hand", () => waiting);
  const supersede = () => publishAll(bench, [state(stream, "a", 3)]);
  return { stream, door, supersede, ...running };
}

describe("watermark on a compacted stream", () => {
  it("by the heartbeat's own sequence claims what the store does not hold", async () => {
    const { claims } = await supersededInHand({ naiveWatermark: true });
    await until("the wrong claim", () => claims.length > 0);
    expect(claims[0]!.store).toEqual({});
  });

  it("by the stream's end as it was when the heartbeat was read does too", async () => {
    const { claims, supersede } = await supersededInHand({ streamEndWatermark: true });
    await settle();
    expect(claims).toEqual([]);
    await supersede();
    await until("the wrong claim", () => claims.length > 0);
    expect(claims[0]!.store).toEqual({});
  });

  it("by an instant at which everything is delivered to us, and then settled, is right", async () => {
    const { claims, supersede, door } = await supersededInHand(undefined);
    await settle();
    await supersede();
    await settle();
    expect(claims).toEqual([]);
    door.open();
    await until("the claim", () => claims.length > 0);
    expect(claims[0]!.store.a!.version).toBeGreaterThanOrEqual(2);
  });

  it("is held back by a batch in another replica's hands", async () => {
    const stream = await makeStream(bench, "compacted");
    const door = gate();
    let waiting = false;
    const slow = claiming(stream, {
      apply: async (batch) => {
        waiting = true;
        await door.opened;
        return upsert(bench.db, stream, batch);
      },
      batch: { max: 1 },
    });
    await until("first runs", () => slow.projector.status().state === "running");
    await publishAll(bench, [state(stream, "a", 1)]);
    await until("in hand", () => waiting);
    // Fills the slow one's buffer, so that all the rest goes to the other.
    await publishAll(bench, [state(stream, "b", 1)]);
    const quick = claiming(stream);
    await until("second runs", () => quick.projector.status().state === "running");
    const at = new Date();
    await publishAll(bench, [heartbeat(stream, "user", at), state(stream, "c", 1)]);
    await until("the other works", async () => "c" in (await contents(bench.db, stream)));
    await settle();
    expect([...quick.claims, ...slow.claims]).toEqual([]);
    door.open();
    await until("claimed", () => quick.claims.length > 0);
    expect(Object.keys(quick.claims[0]!.store).sort()).toEqual(["a", "b", "c"]);
  });

  it.each([
    { replicas: 1, retries: false },
    { replicas: 1, retries: true },
    { replicas: 2, retries: false },
  ])(
    "never claims too much, and keeps moving, under hot keys ($replicas replicas, retries: $retries)",
    async ({ replicas, retries }) => {
      const stream = await makeStream(bench, "compacted");
      const wrong: string[] = [];
      const promised = new Map<number, Map<string, number>>();
      let claimed = 0;
      let random = 7;
      const chance = () => {
        random = (random * 48_271) % 2_147_483_647;
        return random / 2_147_483_647;
      };
      for (let i = 0; i < replicas; i++) {
        project(bench, stream, {
          batch: { max: 5 },
          apply: async (batch) => {
            await new Promise((resolve) => setTimeout(resolve, chance() * 6));
            if (!retries || chance() > 0.2) return upsert(bench.db, stream, batch);
            return batch.map(() => "retry");
          },
          heartbeat: {
            onWatermark: async (_, at) => {
              const store = await contents(bench.db, stream);
              claimed++;
              for (const [key, version] of promised.get(at.getTime())!) {
                if ((store[key]?.version ?? 0) < version) wrong.push(`${key} ${store[key]?.version} < ${version}`);
              }
            },
          },
        });
      }
      const versions = new Map<string, number>();
      const js = bench.nc.jetstream();
      const end = performance.now() + 4_000;
      let at = Date.now();
      for (let i = 0; performance.now() < end; i++) {
        const key = chance() < 0.7 ? `hot${Math.floor(chance() * 2)}` : `k${Math.floor(chance() * 200)}`;
        const version = (versions.get(key) ?? 0) + 1;
        await js.publish(`${stream}.${key}`, state(stream, key, version).body);
        versions.set(key, version);
        if (i % 10 === 0) {
          at += 1;
          promised.set(at, new Map(versions));
          await js.publish(`heartbeat.${stream}.user`, heartbeat(stream, "user", new Date(at)).body);
          // Bursts and lulls.
          if (chance() < 0.1) await new Promise((resolve) => setTimeout(resolve, chance() * 60));
        }
      }
      expect(wrong).toEqual([]);
      if (process.env.SHOW) console.log({ replicas, retries, claimed, promised: promised.size });
      expect(claimed).toBeGreaterThan(0);
      at += 1;
      promised.set(at, new Map(versions));
      const before = claimed;
      await publishAll(bench, [heartbeat(stream, "user", new Date(at))]);
      await until("the last claim", () => claimed > before);
      expect(wrong).toEqual([]);
    },
  );
});

describe("watermark", () => {
  it("on a stream that keeps all waits for the stream's end, flushes first, and outlasts a store that refuses", async () => {
    const stream = await makeStream(bench, "all");
    const order: string[] = [];
    let refusals = 3;
    const { projector } = project(bench, stream, {
      flush: async () => {
        order.push("flush");
        if (refusals-- > 0) throw new Error("not now");
      },
      heartbeat: {
        onWatermark: (source, at, context) => {
          order.push(`${source} ${at.toISOString()} ${context.stream} ${context.ackFloor}`);
        },
      },
    });
    const first = new Date("2026-01-01T00:00:00.000Z");
    const second = new Date("2026-01-01T00:00:00.500Z");
    await publishAll(bench, [
      state(stream, "a", 1),
      heartbeat(stream, "user", first),
      heartbeat(stream, "user", second),
      heartbeat(stream, "session", first),
    ]);
    await until("claimed", () => order.length >= 6);
    expect(order.slice(0, 4)).toEqual(["flush", "flush", "flush", "flush"]);
    const lines = order.filter((line) => line !== "flush");
    expect(lines.at(-1)).toBe(`session ${first.toISOString()} ${stream} 4`);
    expect(lines).toContain(`user ${second.toISOString()} ${stream} 4`);
    expect(projector.status().asOf).toEqual({ user: second.toISOString(), session: first.toISOString() });
  });

  it("parks a heartbeat without a time", async () => {
    const stream = await makeStream(bench, "all");
    const { projector, claims } = claiming(stream);
    await publishAll(bench, [{ subject: `heartbeat.${stream}.user`, body: "{}" }]);
    await until("parked", () => projector.status().counts.dead === 1);
    expect(claims).toEqual([]);
  });
});

describe("DeliveryRuns", () => {
  it("knows what came here", () => {
    const runs = new DeliveryRuns();
    for (const n of [1, 2, 3, 6, 7, 5]) runs.add(n);
    expect(runs.covers(0, 3)).toBe(true);
    expect(runs.covers(0, 4)).toBe(false);
    expect(runs.covers(4, 7)).toBe(true);
    expect(runs.covers(7, 7)).toBe(true);
    expect(runs.covers(3, 7)).toBe(false);
    runs.remove(6);
    expect(runs.covers(4, 7)).toBe(false);
    expect(runs.covers(6, 7)).toBe(true);
    runs.forget(6);
    expect(runs.covers(6, 7)).toBe(true);
    expect(runs.covers(0, 3)).toBe(false);
  });
});
