import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { resetConsumer, StoreUnavailable } from "../src/index.ts";
import {
  addStream,
  type Bench,
  contents,
  heartbeat,
  makeStream,
  project,
  publishAll,
  startBench,
  state,
  stopAll,
  until,
  upsert,
} from "./support.ts";

let bench: Bench;
const children = new Set<ChildProcess>();
beforeAll(async () => {
  bench = await startBench();
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  children.clear();
  await stopAll();
});
afterAll(() => bench.end());

const many = (stream: string, from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => state(stream, `k${from + i}`, 1));
const count = (stream: string) => bench.db.hlen(stream);
const hold = () => {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
};

function child(stream: string, unsafe = ""): ChildProcess {
  const script = fileURLToPath(new URL("./fixtures/process.ts", import.meta.url));
  const process_ = spawn(process.execPath, [script, bench.nats.url, bench.redis.url, stream, unsafe], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  children.add(process_);
  return process_;
}
async function kill(process_: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => process_.once("exit", resolve));
  process_.kill("SIGKILL");
  await gone;
  children.delete(process_);
}

describe("a projector process killed in mid-batch", () => {
  it("loses nothing", async () => {
    const stream = await makeStream(bench, "all");
    await publishAll(bench, many(stream, 0, 3_000));
    for (let round = 1; round <= 4; round++) {
      const victim = child(stream);
      await until("some progress", async () => (await count(stream)) >= round * 400);
      await kill(victim);
    }
    expect(await count(stream)).toBeLessThan(3_000);
    child(stream);
    await until("all", async () => (await count(stream)) === 3_000);
  });

  it("loses events if it acknowledges before the store has them (the experiment that must notice)", async () => {
    const stream = await makeStream(bench, "all");
    await publishAll(bench, many(stream, 0, 1_000));
    const victim = child(stream, "ackBeforeApply");
    await until("some progress", async () => (await count(stream)) >= 50);
    await kill(victim);
    const { projector } = project(bench, stream, { ackWaitMs: 1_000 });
    await until("everything acknowledged", async () => (await projector.ackFloor())?.seq === 1_000);
    expect(await count(stream)).toBeLessThan(1_000);
  });
});

describe("a broker that comes back without what it had not fsynced", () => {
  /** Runs `meanwhile` while there is a copy of the broker's files, then kills it and puts the copy in their place. */
  async function rewind(meanwhile: () => Promise<void>): Promise<void> {
    const copy = `${bench.nats.dir}.copy`;
    await bench.nats.stop();
    cpSync(bench.nats.dir, copy, { recursive: true });
    await bench.nats.start();
    await answers();
    await meanwhile();
    await bench.nats.kill();
    rmSync(bench.nats.dir, { recursive: true });
    cpSync(copy, bench.nats.dir, { recursive: true });
    rmSync(copy, { recursive: true });
    await bench.nats.start();
    await answers();
  }
  const answers = async () => {
    const jsm = await bench.nc.jetstreamManager({ checkAPI: false, timeout: 300 });
    await until("the broker answers", () =>
      jsm.getAccountInfo().then(
        () => true,
        () => false,
      ),
    );
  };

  it("acknowledges nothing of what is under the same sequences now", async () => {
    const stream = await makeStream(bench, "all");
    const [first, second] = [hold(), hold()];
    let inHand = 0;
    const hanging = project(bench, stream, {
      ackWaitMs: 1_000,
      apply: async (batch) => {
        const values = batch.map(({ event }) => event.value);
        if (values.includes("before")) {
          inHand = batch.length;
          await first.opened;
        }
        // Whoever has the new ones dies with them in hand.
        if (values.includes("after")) {
          await second.opened;
          throw new StoreUnavailable("dying");
        }
        return upsert(bench.db, stream, batch);
      },
    });
    await publishAll(bench, many(stream, 0, 100));
    await until("first part", async () => (await hanging.projector.ackFloor())?.seq === 100);
    const named = (value: string) => Array.from({ length: 50 }, (_, i) => state(stream, `${value}-${i}`, 1, value));
    await rewind(async () => {
      await publishAll(bench, named("before"));
      await until("in hand", () => inHand > 0);
    });
    // The relay fills the same sequences, perhaps with other messages.
    await publishAll(bench, named("after"));
    first.open();
    await until("what was in hand is applied", async () => (await bench.db.hexists(stream, "before-0")) === 1);
    // Whatever it acknowledges it has sent by now.
    await bench.nc.flush();
    const stopped = hanging.stop();
    second.open();
    await stopped;
    project(bench, stream, { ackWaitMs: 1_000 });
    await until("every new one", async () => {
      const keys = await bench.db.hkeys(stream);
      return keys.filter((key) => key.startsWith("after-")).length === 50;
    });
  });
});

describe("store trouble", () => {
  it("killed and back: waits, says so once at each end, loses nothing, redelivers nothing", async () => {
    const stream = await makeStream(bench, "all");
    const { projector, log } = project(bench, stream, { ackWaitMs: 1_500 });
    await publishAll(bench, many(stream, 0, 500));
    await until("first part", async () => (await count(stream)) === 500);
    await bench.redis.kill();
    await publishAll(bench, many(stream, 500, 4_000));
    await until("noticed", () => projector.status().state === "waiting for the store");
    // Longer than ack_wait: the keep-alives hold the batch here.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(projector.status().trouble).toContain("StoreUnavailable");
    await bench.redis.start();
    await until("all", async () => (await count(stream).catch(() => 0)) === 4_000);
    await until("running", () => projector.status().state === "running");
    expect(log.filter((l) => l.level === "warn").map((l) => l.message.split(":")[0])).toEqual(["store unavailable"]);
    expect(log.filter((l) => l.message.startsWith("store takes events again"))).toHaveLength(1);
    expect(projector.status().counts).toMatchObject({ redelivered: 0, dead: 0 });
  });

  it("frozen and thawed: waits", async () => {
    const stream = await makeStream(bench, "all");
    const { projector } = project(bench, stream);
    await publishAll(bench, many(stream, 0, 10));
    await until("first part", async () => (await count(stream)) === 10);
    bench.redis.freeze();
    try {
      await publishAll(bench, many(stream, 10, 1_000));
      await until("noticed", () => projector.status().state === "waiting for the store");
    } finally {
      bench.redis.thaw();
    }
    await until("all", async () => (await count(stream).catch(() => 0)) === 1_000);
  });
});

describe("broker trouble", () => {
  it("killed again and again under way: goes on by itself, and acknowledgements lost with the connection are sent again", async () => {
    const stream = await makeStream(bench, "all");
    const { projector } = project(bench, stream, {
      // What was on the wire when the server died comes again after this.
      ackWaitMs: 3_000,
      batch: { max: 50 },
      apply: async (batch) => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        return upsert(bench.db, stream, batch);
      },
    });
    for (let round = 1; round <= 3; round++) {
      await publishAll(bench, many(stream, (round - 1) * 1_000, round * 1_000));
      await bench.nats.kill();
      await bench.nats.start();
      await until("all", async () => (await count(stream)) === round * 1_000);
    }
    await until("floor", async () => (await projector.ackFloor())?.seq === 3_000);
    await publishAll(bench, many(stream, 3_000, 3_010));
    await until("idle delivery works", async () => (await count(stream)) === 3_010);
  });

  it("frozen and thawed: goes on by itself", async () => {
    const stream = await makeStream(bench, "compacted");
    const claims: string[] = [];
    const { projector } = project(bench, stream, {
      heartbeat: { onWatermark: (_, at) => void claims.push(at.toISOString()) },
    });
    await publishAll(bench, many(stream, 0, 10));
    await until("first part", async () => (await count(stream)) === 10);
    bench.nats.freeze();
    try {
      await until("noticed", () => projector.status().state === "waiting for the broker");
    } finally {
      bench.nats.thaw();
    }
    await until("published", () =>
      publishAll(bench, many(stream, 10, 20)).then(
        () => true,
        () => false,
      ),
    );
    await until("all", async () => (await count(stream)) === 20);
    await publishAll(bench, [heartbeat(stream, "user", new Date())]);
    await until("claimed", () => claims.length === 1);
  });

  it("consumer deleted by hand: makes it anew and reads all again", async () => {
    const stream = await makeStream(bench, "all");
    const { projector } = project(bench, stream);
    await publishAll(bench, many(stream, 0, 100));
    await until("first part", async () => (await projector.ackFloor())?.seq === 100);
    expect(await resetConsumer(bench.nc, stream, "shop")).toBe(true);
    await publishAll(bench, many(stream, 100, 200));
    await until("all", async () => (await count(stream)) === 200);
    await until("read again", () => projector.status().counts.events === 300);
    await until("and found known", () => projector.status().counts.stale === 100);
  });

  it("stream made anew, with a batch in hand: no acknowledgement of the old one touches the new one", async () => {
    const stream = await makeStream(bench, "all");
    const door = hold();
    let waiting = false;
    const { projector } = project(bench, stream, {
      apply: async (batch) => {
        waiting = true;
        await door.opened;
        return upsert(bench.db, stream, batch);
      },
    });
    await publishAll(bench, many(stream, 0, 50));
    await until("in hand", () => waiting);
    const first = await projector.ackFloor();
    await bench.jsm.streams.delete(stream);
    await until("noticed", () => projector.status().state === "waiting for the stream");
    await addStream(bench, stream, "all");
    await publishAll(bench, many(stream, 100, 200));
    door.open();
    await until("all of the new one", async () => (await projector.ackFloor())?.seq === 100);
    const held = await contents(bench.db, stream);
    for (let i = 100; i < 200; i++) expect(held[`k${i}`]).toBeDefined();
    expect((await projector.ackFloor())!.stream).not.toBe(first!.stream);
  });
});

describe("replicas", () => {
  it("share the work", async () => {
    const stream = await makeStream(bench, "all");
    const slow = { batch: { max: 20 }, maxAckPending: 200 };
    const running = [0, 1].map(() =>
      project(bench, stream, {
        ...slow,
        apply: async (batch) => {
          await new Promise((resolve) => setTimeout(resolve, 2));
          return upsert(bench.db, stream, batch);
        },
      }),
    );
    await until("both run", () => running.every((r) => r.projector.status().state === "running"));
    await publishAll(bench, many(stream, 0, 2_000));
    await until("all", async () => (await count(stream)) === 2_000);
    await until("counted", () => running.reduce((n, r) => n + r.projector.status().counts.events, 0) === 2_000);
    for (const { projector } of running) expect(projector.status().counts.events).toBeGreaterThan(200);
  });

  it("hand over at a graceful stop: the batch in hand is finished, the rest is another's at once", async () => {
    const stream = await makeStream(bench, "all");
    const door = hold();
    const first: number[] = [];
    const leaving = project(bench, stream, {
      ackWaitMs: 30_000,
      batch: { max: 100 },
      apply: async (batch) => {
        first.push(batch.length);
        await door.opened;
        return upsert(bench.db, stream, batch);
      },
    });
    await publishAll(bench, many(stream, 0, 300));
    // How much waits behind the batch in hand depends on how the pulls met the messages; that something does is what is needed.
    await until("more than the batch in hand", async () => {
      const info = await bench.jsm.consumers.info(stream, "shop").catch(() => undefined);
      return first.length > 0 && (info?.num_ack_pending ?? 0) > (first[0] as number);
    });
    const stopped = leaving.stop();
    const staying = project(bench, stream, { ackWaitMs: 30_000 });
    door.open();
    await stopped;
    expect(leaving.projector.status()).toMatchObject({ state: "stopped" });
    expect(first).toHaveLength(1);
    // ack_wait is 30 s: only what was given back can come within 10.
    await until("all", async () => (await count(stream)) === 300, 10_000);
    await until("floor", async () => (await staying.projector.ackFloor())?.seq === 300, 10_000);
    expect(leaving.projector.status().counts.events).toBe(first[0]);
  });

  it("a stop does not wait for ever for a store that hangs, nor for one that is down", async () => {
    const stream = await makeStream(bench, "all");
    let calls = 0;
    const hanging = project(bench, stream, {
      stopGraceMs: 100,
      apply: () => {
        calls++;
        return new Promise(() => {});
      },
    });
    await publishAll(bench, many(stream, 0, 10));
    await until("called", () => calls > 0);
    await hanging.stop();
    const down = project(bench, stream, {
      stopGraceMs: 100,
      apply: async () => {
        calls++;
        throw new StoreUnavailable("down");
      },
    });
    await until("called again", () => calls > 2);
    await down.stop();
    project(bench, stream);
    await until("all", async () => (await count(stream)) === 10, 10_000);
  });
});
