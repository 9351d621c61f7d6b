import { Cron } from "croner";
import { z } from "zod";

/** What a service knows of the backups that are made of its store; spread it into its schema. No `BACKUP_SCHEDULE`: nobody makes any. */
export const backupsConfig = {
  /** When the backup job runs, as cron says it, in UTC. It also deletes what is too old. */
  BACKUP_SCHEDULE: z
    .string()
    .superRefine((text, ctx) => {
      if (!runsAfter(text, new Date(0))) ctx.addIssue({ code: "custom", message: "must be a cron schedule" });
    })
    .optional(),
  /** Days after which the backup job deletes a backup. */
  BACKUP_RETENTION_DAYS: z.coerce.number().int().min(1).max(3650).default(14),
};

export interface BackupSettings {
  BACKUP_SCHEDULE?: string | undefined;
  BACKUP_RETENTION_DAYS: number;
}

/** A backup that began before a commit may still see what was there before it. */
const OVERLAP_MS = 60_000;
/** A run starts at most an hour late and takes six at most (charts/common/templates/_store.tpl). */
const RUN_MS = 7 * 3_600_000;

/**
 * By when the last backup that holds something is deleted, if that was in the store until `heldUntil`. Null: no backups are made. The job deletes at the
 * first run after a backup's term, and first of all things.
 */
export function backupsGoneBy(settings: BackupSettings, heldUntil: Date): Date | null {
  if (!settings.BACKUP_SCHEDULE) return null;
  const term = heldUntil.getTime() + settings.BACKUP_RETENTION_DAYS * 86_400_000 + OVERLAP_MS;
  // One that never runs again never deletes: its term is the best that can be said.
  const run = runsAfter(settings.BACKUP_SCHEDULE, new Date(term - 1)) ?? new Date(term);
  return new Date(run.getTime() + RUN_MS);
}

function runsAfter(schedule: string, after: Date): Date | null {
  try {
    return new Cron(schedule, { timezone: "UTC", mode: "5-part" }).nextRun(after);
  } catch {
    return null;
  }
}
