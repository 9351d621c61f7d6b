import { setTimeout as sleep } from "node:timers/promises";
import {
  type AuditFindingBody,
  erasedQuery,
  type erasedPage as Page,
  type ServiceStatus,
  toldErased,
  userIdField,
} from "@quartet/contracts";
import {
  addActivity,
  addRebuildRoutes,
  type BackupSettings,
  backupsGoneBy,
  HttpProblem,
  onlyFor,
  parseBody,
  parseParams,
  parseQuery,
  type Rebuilds,
  remembered,
} from "@quartet/service";
import type { Express } from "express";
import { z } from "zod";
import type { FactAudit } from "../events/audit.ts";
import { lastFinding } from "../store/audits.ts";
import type { ClickHouse } from "../store/client.ts";
import { namesPerson, recordErasedNow } from "../store/erasure.ts";
import { countFacts } from "../store/facts.ts";
import { activity } from "../store/queries.ts";
import { erasedPage, recordReceipts, registryState } from "../store/registry.ts";
import { asOf, readWatermarks } from "../store/watermarks.ts";
import { questionsFor } from "./analytics.ts";
import type { Freshen } from "./freshness.ts";

export interface InternalOptions {
  clickhouse: ClickHouse;
  freshen: Freshen;
  /** Makes sure that no row names anyone recorded as erased. */
  anonymise(): Promise<void>;
  /** Whether the projector has passed the last message that names this person. */
  hasPassedPerson(userId: string): Promise<boolean>;
  /** Makes sure that the ledger knows this person's facts before they are purged. */
  sealPerson(userId: string): Promise<void>;
  /** When backups of this store are made, and how long they are kept. */
  backups: BackupSettings;
  audit: FactAudit;
  rebuilds: Rebuilds;
  /** How far the projector is; undefined while that cannot be known. */
  progress(): Promise<{ lag: number; deadLetters: number } | undefined>;
  brokerAnswers(): Promise<boolean>;
}

const person = z.object({ userId: userIdField });
const COUNTED_MS = 2_000;
const ANONYMISE_WAIT_MS = 400;
const SEAL_WAIT_MS = 500;
const erasure = z.strictObject({ userId: userIdField, version: z.number().int().nonnegative() });

/** The calls that only other services of ours make. */
export function addInternalRoutes(app: Express, options: InternalOptions): void {
  const { clickhouse } = options;
  // Whoever watches asks every second, and it takes a look at every row.
  const facts = remembered(COUNTED_MS, () => countFacts(clickhouse.questionsOf({ client: "status" })));

  app.get("/internal/activity/:userId", onlyFor("gateway"), async (req, res) => {
    const { userId } = parseParams(person, req);
    await options.freshen(req, res);
    res.json(await activity(questionsFor(clickhouse, req, res), userId));
  });

  app.post("/internal/erasures", onlyFor("user"), async (req, res) => {
    const { userId } = parseBody(erasure, req);
    await recordErasedNow(clickhouse, userId);
    // While the broker is away it cannot be known.
    const passed = await options.hasPassedPerson(userId).catch(() => false);
    const sealed = passed && (await within(SEAL_WAIT_MS, options.sealPerson(userId)));
    if (await namesPerson(clickhouse, userId)) {
      // A mutation of a large table takes longer than the caller waits: it goes on, and the next call finds it done.
      await Promise.race([options.anonymise().catch(() => {}), sleep(ANONYMISE_WAIT_MS)]);
    }
    const complete = sealed && !(await namesPerson(clickhouse, userId));
    const goneBy = complete ? backupsGoneBy(options.backups, new Date()) : null;
    res.json({ state: complete ? "complete" : "pending", goneBy: goneBy?.toISOString() ?? null });
  });

  app.get("/internal/erased/state", onlyFor("user"), async (_req, res) => {
    res.json(await registryState(clickhouse));
  });
  app.post("/internal/erased", onlyFor("user"), async (req, res) => {
    const { again, people } = parseBody(toldErased, req);
    await recordReceipts(clickhouse, people);
    // A store that was restored may hold facts of people who were erased since; else their own erasures see to that.
    if (again) options.anonymise().catch(() => {});
    res.json(await registryState(clickhouse));
  });
  app.get("/internal/erased", onlyFor("user"), async (req, res) => {
    const state = await registryState(clickhouse);
    const page = { people: await erasedPage(clickhouse, parseQuery(erasedQuery, req)), state };
    res.json(page satisfies z.infer<typeof Page>);
  });

  // Asked when the log is short of room: what it may forget.
  app.post("/internal/sealed", onlyFor("user"), async (_req, res) => {
    res.json(await options.audit.sealed());
  });

  addRebuildRoutes(app, "analytics", options.rebuilds);

  app.post("/internal/audit", onlyFor("gateway"), async (_req, res) => {
    const requested = new Date().toISOString();
    // It goes on after the answer; what it found is asked for.
    options.audit.round().catch(() => {});
    res.status(202).json({ requested: { analytics: requested } });
  });

  app.get("/internal/audit", onlyFor("gateway"), async (_req, res) => {
    const found = options.audit.last() ?? (await lastFinding(clickhouse));
    const audits = found ? [{ store: "analytics" as const, ...found, users: found.users.slice(0, 1000) }] : [];
    res.json({ audits } satisfies { audits: AuditFindingBody[] });
  });

  addActivity(app);
  app.get("/internal/status", onlyFor("gateway", "analytics"), async (_req, res) => {
    const [store, up, progress, found] = await Promise.all([
      storeStatus(clickhouse, facts),
      options.brokerAnswers(),
      options.progress().catch(() => undefined),
      lastFinding(clickhouse).catch(() => undefined),
    ]);
    const at = store.asOf;
    res.json({
      store: { up: store.up, ...(store.facts === undefined ? {} : { facts: store.facts }) },
      nats: { up },
      projectors: {
        analytics: {
          asOf: at?.toISOString() ?? null,
          stalenessSeconds: at ? Math.max(0, (Date.now() - at.getTime()) / 1000) : null,
          lag: progress?.lag ?? null,
          deadLetters: progress?.deadLetters ?? null,
        },
      },
      audit: { drift: found?.drift ?? null, checkedAt: found?.checkedAt ?? null },
    } satisfies ServiceStatus);
  });
}

/** Whether it comes to a good end within `ms`. */
async function within(ms: number, work: Promise<void>): Promise<boolean> {
  const done = work.then(
    () => true,
    () => false,
  );
  return Promise.race([done, sleep(ms, false)]);
}

async function storeStatus(
  clickhouse: ClickHouse,
  count: () => Promise<number>,
): Promise<{ up: boolean; facts?: number; asOf?: Date | undefined }> {
  try {
    const [facts, watermarks] = await Promise.all([count().catch(() => undefined), readWatermarks(clickhouse)]);
    return { up: true, ...(facts === undefined ? {} : { facts }), asOf: asOf(watermarks) };
  } catch (error) {
    if (!(error instanceof HttpProblem)) throw error;
    return { up: false };
  }
}
