import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { leaveHome, operatorToken, runningLauncher, takeHome, trimLogs, wipeHome, writeRunFile } from "../src/home.ts";

const home = mkdtempSync(join(tmpdir(), "quartet-home-"));

beforeEach(() => leaveHome(home));
afterAll(() => rmSync(home, { recursive: true, force: true }));

test("a second launcher on the same home is refused in one line; a dead one's lock is taken over", () => {
  takeHome(home);
  expect(runningLauncher(home)?.pid).toBe(process.pid);
  writeRunFile(home, { url: "http://127.0.0.1:1", startedAt: "", launcher: 1, engines: {}, services: {} });
  expect(() => takeHome(home)).toThrow(/^Quartet already runs here at http:\/\/127\.0\.0\.1:1 \(process \d+\)\. .*$/);
  writeFileSync(join(home, "launcher.lock"), JSON.stringify({ pid: process.pid, started: "an earlier process" }));
  takeHome(home);
});

test("the operator token stays the same and is for its owner alone", () => {
  const token = operatorToken(home);
  expect(token).toMatch(/^[\w-]{43}$/);
  expect(operatorToken(home)).toBe(token);
  expect(statSync(join(home, "operator-token")).mode & 0o777).toBe(0o600);
});

test("a wipe removes what Quartet made and nothing else", () => {
  writeFileSync(join(home, "mine.txt"), "kept");
  mkdirSync(join(home, "data", "redis"), { recursive: true });
  wipeHome(home);
  expect(existsSync(join(home, "data"))).toBe(false);
  expect(existsSync(join(home, "operator-token"))).toBe(false);
  expect(existsSync(join(home, "mine.txt"))).toBe(true);
});

test("a log that is full starts again and keeps one predecessor", () => {
  mkdirSync(join(home, "logs"), { recursive: true });
  writeFileSync(join(home, "logs", "redis.log"), Buffer.alloc(9 * 1024 * 1024));
  writeFileSync(join(home, "logs", "nats.log"), "short");
  trimLogs(home);
  expect(statSync(join(home, "logs", "redis.log")).size).toBe(0);
  expect(statSync(join(home, "logs", "redis.log.1")).size).toBe(9 * 1024 * 1024);
  expect(existsSync(join(home, "logs", "nats.log.1"))).toBe(false);
});
