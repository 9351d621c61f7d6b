import { expect, test } from "vitest";
import { z } from "zod";
import { backupsConfig, backupsGoneBy } from "../src/backups.ts";
import { parseConfig } from "../src/config.ts";

const at = (text: string) => new Date(text);
const nightly = { BACKUP_SCHEDULE: "17 3 * * *", BACKUP_RETENTION_DAYS: 14 };

test("the last backup is gone by the first run after its term, and the hours that a run may take", () => {
  const goneBy = (held: string, settings = nightly) => backupsGoneBy(settings, at(held))?.toISOString();
  expect(goneBy("2026-11-01T03:00:00Z")).toBe("2026-11-15T10:17:00.000Z");
  // A backup that begins a moment after the erasure does may still see the person.
  expect(goneBy("2026-11-01T03:16:30Z")).toBe("2026-11-16T10:17:00.000Z");
  expect(goneBy("2026-11-01T03:18:00Z")).toBe("2026-11-16T10:17:00.000Z");
  // Sundays alone, and what cron calls by name.
  expect(goneBy("2026-11-01T00:00:00Z", { ...nightly, BACKUP_SCHEDULE: "0 0 * * 0" })).toBe("2026-11-22T07:00:00.000Z");
  expect(goneBy("2026-11-01T12:00:00Z", { BACKUP_SCHEDULE: "@daily", BACKUP_RETENTION_DAYS: 1 })).toBe(
    "2026-11-03T07:00:00.000Z",
  );
  expect(backupsGoneBy({ BACKUP_RETENTION_DAYS: 14 }, at("2026-11-01T00:00:00Z"))).toBeNull();
});

test.each(["every night", "61 3 * * *", "0 0 30 2 *", "* * * * * *"])("%s is no schedule", (schedule) => {
  expect(() => parseConfig(z.object(backupsConfig), { BACKUP_SCHEDULE: schedule })).toThrow(/BACKUP_SCHEDULE: must be/);
});
