import { expect, test } from "vitest";
import { LagClock } from "../src/postgres/lag.ts";
import { formatLsn, parseLsn } from "../src/postgres/slot.ts";
import { compareEntries } from "../src/redis/keys.ts";
import { thin } from "../src/verify.ts";

test("a history keeps all of the last minute, then one a minute, then one an hour, and the newest of each", () => {
  const now = new Date("2026-01-10T12:00:00.000Z");
  const seconds = Array.from({ length: 3 * 86_400 }, (_, i) => ({ at: new Date(now.getTime() - i * 1000) }));
  const kept = thin(seconds, now);
  expect(kept.slice(0, 60)).toEqual(seconds.slice(0, 60));
  const minutes = kept.filter(
    ({ at }) => now.getTime() - at.getTime() >= 60_000 && now.getTime() - at.getTime() < 86_400_000,
  );
  expect(minutes.length).toBeGreaterThanOrEqual(1_438);
  expect(minutes.length).toBeLessThanOrEqual(1_441);
  const hours = kept.filter(({ at }) => now.getTime() - at.getTime() >= 86_400_000);
  expect(hours.length).toBeGreaterThanOrEqual(47);
  expect(hours.length).toBeLessThanOrEqual(50);
  // Thinning what is thin already changes nothing.
  expect(thin(kept, now)).toEqual(kept);
});

test("lag in time is the age of the oldest end of the log that is not reached", () => {
  const lag = new LagClock();
  expect(lag.seconds(0n)).toBeNull();
  lag.observe(100n, 100n);
  expect(lag.seconds(100n)).toBe(0);
  lag.observe(200n, 100n);
  expect(lag.seconds(199n)).toBeGreaterThanOrEqual(0);
  expect(lag.seconds(200n)).toBe(0);
  lag.forget();
  expect(lag.seconds(200n)).toBeNull();
});

test("positions and entry ids are numbers, not texts", () => {
  for (const text of ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"]) expect(formatLsn(parseLsn(text))).toBe(text);
  expect(parseLsn("10/0") > parseLsn("F/FFFFFFFF")).toBe(true);
  expect(compareEntries("1700000000000-9", "1700000000000-10")).toBeLessThan(0);
  expect(compareEntries("999-1", "1000-0")).toBeLessThan(0);
});
