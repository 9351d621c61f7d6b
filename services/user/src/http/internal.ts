import { anyText, deadLettersQuery, importedUser, type ServiceStatus, userIdField } from "@quartet/contracts";
import {
  addActivity,
  badRequest,
  clientOf,
  currentTraceparent,
  HttpProblem,
  notFound,
  onlyFor,
  parseBody,
  parseQuery,
  unauthorized,
} from "@quartet/service";
import type { Express, Request } from "express";
import { z } from "zod";
import { AUDITED_STORES, listAudits, loadAudit, requestAudit } from "../store/audit.ts";
import type { Database } from "../store/database.ts";
import { findImported, importUsers } from "../store/import.ts";
import { beginEpoch, repairUsers } from "../store/repair.ts";
import { type AppendEvents, versionOf } from "../store/rows.ts";
import { countUsers, slotLag, workerReport } from "../store/status.ts";
import type { Users } from "../store/users.ts";
import type { PasswordHasher } from "./passwords.ts";

export interface InternalRoutesOptions {
  db: Database;
  users: Users;
  passwords: PasswordHasher;
  append: AppendEvents;
  slot: string;
  dead: {
    list(after: number, limit: number): Promise<unknown>;
    get(seq: number): Promise<unknown>;
    retry(seq: number): Promise<void>;
    drop(seq: number): Promise<void>;
    isMissing(error: unknown): boolean;
  };
  broker: { up(): boolean; answers(): Promise<boolean>; streams(): Promise<Record<string, { messages: number }>> };
}

const credentials = z.strictObject({ login: anyText(0, 254), password: anyText(0, 1024) });
const people = z.strictObject({ users: z.array(importedUser).max(1000) });
const keys = z.strictObject({ keys: z.array(anyText(0, 320)).max(5000) });
const repairs = z.strictObject({
  users: z.array(z.strictObject({ id: userIdField, above: z.number().int().nonnegative() })).max(100),
});

/** The calls that only other services of ours make. */
export function addInternalRoutes(app: Express, options: InternalRoutesOptions): void {
  const { db, users, passwords, append, dead, broker } = options;
  app.post("/internal/credentials/verify", onlyFor("session"), async (req, res) => {
    const { login, password } = parseBody(credentials, req);
    const row = await users.findForLogin(login);
    const turn = { client: clientOf(req), res };
    if (!(await passwords.verify(row?.password_hash, password, turn)) || !row) {
      throw unauthorized("the login or the password is wrong");
    }
    res.json({
      userId: row.id,
      handle: row.handle,
      displayName: row.display_name,
      credentialEpoch: row.credential_epoch,
      keptSessionId: row.kept_session_id,
      version: versionOf(row),
      revision: row.revision,
    });
  });

  app.post("/internal/import", onlyFor("gateway"), async (req, res) => {
    const { users: given } = parseBody(people, req);
    const result = await importUsers(db, append, given, currentTraceparent());
    res.json({ users: result.users, token: { a: { user: result.committedBefore.toISOString() } } });
  });

  app.post("/internal/import/keys", onlyFor("gateway"), async (req, res) => {
    res.json({ ids: await findImported(db, parseBody(keys, req).keys) });
  });

  app.post("/internal/repair", onlyFor("user"), async (req, res) => {
    res.json({ users: await repairUsers(db, append, parseBody(repairs, req).users) });
  });

  app.get("/internal/audit", onlyFor("gateway"), async (_req, res) => {
    res.json({ audits: await listAudits(db) });
  });
  app.post("/internal/audit", onlyFor("gateway"), async (_req, res) => {
    const at = (await requestAudit(db)).toISOString();
    res.status(202).json({ requested: Object.fromEntries(AUDITED_STORES.map((store) => [store, at])) });
  });

  app.post("/internal/restored", onlyFor("user"), async (_req, res) => {
    res.status(202).json({ epoch: await beginEpoch(db) });
  });

  const found = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      if (dead.isMissing(error)) throw notFound("there is no such dead letter");
      throw error;
    }
  };
  app.get("/internal/dead", onlyFor("gateway"), async (req, res) => {
    const { after, limit } = parseQuery(deadLettersQuery, req);
    res.json(await dead.list(after, limit));
  });
  app.get("/internal/dead/:seq", onlyFor("gateway"), async (req, res) => {
    const letter = await dead.get(sequence(req));
    if (!letter) throw notFound("there is no such dead letter");
    res.json(letter);
  });
  app.post("/internal/dead/:seq/retry", onlyFor("gateway"), async (req, res) => {
    await found(() => dead.retry(sequence(req)));
    res.status(202).end();
  });
  app.delete("/internal/dead/:seq", onlyFor("gateway"), async (req, res) => {
    await found(() => dead.drop(sequence(req)));
    res.status(204).end();
  });

  addActivity(app);
  app.get("/internal/status", onlyFor("gateway", "user"), async (_req, res) => {
    const [store, up, streams] = await Promise.all([
      storeStatus(options),
      broker.answers(),
      broker.up() ? broker.streams().catch(() => ({})) : {},
    ]);
    res.json({ ...store, nats: { up }, streams } satisfies ServiceStatus);
  });
}

async function storeStatus({ db, slot }: InternalRoutesOptions): Promise<ServiceStatus> {
  try {
    const [users, lagBytes, relay, audit] = await Promise.all([
      countUsers(db),
      slotLag(db, slot),
      workerReport(db, "relay"),
      loadAudit(db),
    ]);
    const lagSeconds = (relay?.lagSeconds as number | null | undefined) ?? null;
    return { store: { up: true, users }, relays: { user: { lagBytes, lagSeconds } }, audit };
  } catch (error) {
    if (!(error instanceof HttpProblem)) throw error;
    return {
      store: { up: false },
      relays: { user: { lagBytes: null, lagSeconds: null } },
      audit: { drift: null, checkedAt: null },
    };
  }
}

function sequence(req: Request): number {
  const seq = Number(req.params.seq);
  if (!Number.isSafeInteger(seq) || seq < 1) throw badRequest({ path: "seq", message: "must be a sequence number" });
  return seq;
}
