import { createHash, randomBytes, randomUUID } from "node:crypto";
import { type SessionBody, type SessionEndReason, uuidv7 } from "@quartet/contracts";
import type { Run } from "./redis.ts";
import { template } from "./templates.ts";

/** What User answers about a person whose password was right. */
export interface VerifiedUser {
  userId: string;
  handle: string;
  displayName: string;
  credentialEpoch: number;
  keptSessionId: string | null;
  version: number;
  revision: number;
}

export interface SessionLimits {
  ttlMs: number;
  maxMs: number;
  perUser: number;
}

export type CreateResult =
  | { outcome: "created"; token: string; session: SessionBody }
  /** User answered from before an erasure, or from before a changed password, that are known here. */
  | { outcome: "erased" | "outdated" };

/** Whose log-in it is, as Redis may know it. */
export interface AttemptKeys {
  /** HMAC of the login name and the client. */
  own: string;
  /** HMAC of the login name. */
  name: string;
}

const FAILURES = 10;
const WINDOW_MS = 60_000;
/** Between two tries of clients nobody knows at a name that is being guessed at, and how many of them may stand in line. */
const LINE_MS = 1000;
const IN_LINE = 100;
/** For so long a client from which a log-in succeeded is known to be that person's, and so many are. */
const FAMILIAR_MS = 90 * 24 * 3_600_000;
const FAMILIAR = 20;
/** An attempt whose process died is counted as failed after this. */
const ATTEMPT_MS = 10_000;

type Row = [id: string, userId: string, device: string, createdAt: string, lastSeenAt: string, expiresAt: string];

function iso(ms: string): string {
  return new Date(Number(ms)).toISOString();
}

function toBody([id, userId, device, createdAt, lastSeenAt, expiresAt]: Row): SessionBody {
  return {
    id,
    userId,
    device: device === "" ? null : device,
    createdAt: iso(createdAt),
    lastSeenAt: iso(lastSeenAt),
    expiresAt: iso(expiresAt),
  };
}

/** Redis holds only this of a token. */
export function tokenHash(token: string): string {
  return createHash("sha256").update(token).digest("base64url");
}

/** The sessions, every change one script that also writes its event. */
export function createSessions(run: Run, limits: SessionLimits) {
  /** Every write is an fsync: a use is written down only so often, yet often enough that no session ends early by more than a twentieth. */
  const touchMs = Math.floor(Math.min(10_000, limits.ttlMs / 20));

  return {
    /** Asks to try a password for a login name. `wait`: as many attempts as may still fail are under way. */
    async attempt({ own, name }: AttemptKeys): Promise<{ go: string } | "wait" | { refusedForMs: number }> {
      const id = randomUUID();
      const limits = [FAILURES, WINDOW_MS, ATTEMPT_MS, LINE_MS, IN_LINE];
      const answer = (await run("attempt", own, name, id, ...limits)) as [string, string?];
      if (answer[0] === "go") return { go: id };
      return answer[0] === "wait" ? "wait" : { refusedForMs: Number(answer[1]) };
    },

    /** Ends an attempt that made no session. */
    async settle({ own, name }: AttemptKeys, attempt: string, failed: boolean): Promise<void> {
      await run("settle", own, name, attempt, failed ? "1" : "0", WINDOW_MS);
    },

    async create(
      user: VerifiedUser,
      device: string | undefined,
      { own, name }: AttemptKeys,
      attempt: string,
    ): Promise<CreateResult> {
      const token = `qs_${randomBytes(32).toString("base64url")}`;
      const answer = (await run(
        "create",
        uuidv7(),
        tokenHash(token),
        user.userId,
        device ?? "",
        limits.ttlMs,
        limits.maxMs,
        limits.perUser,
        own,
        name,
        attempt,
        FAMILIAR_MS,
        FAMILIAR,
        user.version,
        user.revision,
        user.handle,
        user.displayName,
        user.credentialEpoch,
        user.keptSessionId ?? "",
        template("started"),
        template("ended"),
      )) as ["erased" | "outdated"] | ["created", ...Row];
      if (answer[0] !== "created") return { outcome: answer[0] };
      return { outcome: "created", token, session: toBody(answer.slice(1) as Row) };
    },

    /** Whose token it is; undefined for one that is unknown, revoked or expired. Counts as a use. */
    async introspect(token: string): Promise<{ sessionId: string; userId: string } | undefined> {
      const answer = await run("introspect", tokenHash(token), limits.ttlMs, touchMs, template("active"));
      if (!answer) return undefined;
      const [sessionId, userId] = answer as [string, string];
      return { sessionId, userId };
    },

    /** A living session of that person with the profile copy and its as-of. */
    async current(sessionId: string, userId: string) {
      const answer = (await run("current", sessionId, userId)) as
        | [asOf: string | null, Row, [handle: string | null, displayName: string | null]]
        | null;
      if (!answer) return undefined;
      const [asOf, row, [handle, displayName]] = answer;
      return {
        asOf: asOf ?? undefined,
        session: toBody(row),
        user: { id: userId, handle: handle ?? "", displayName: displayName ?? "" },
      };
    },

    async list(userId: string): Promise<SessionBody[]> {
      return ((await run("list", userId)) as Row[]).map(toBody);
    },

    /** Ends one session. False if it is not there, or not that person's (`null`: anybody's). */
    async end(sessionId: string, userId: string | null, reason: SessionEndReason): Promise<boolean> {
      return (await run("end_one", sessionId, userId ?? "", reason, template("ended"))) === 1;
    },

    /** Ends all sessions of a person; the ids of those that ended. */
    async endAll(userId: string, reason: SessionEndReason): Promise<string[]> {
      const [, ids] = (await run("end_all", userId, reason, template("ended"))) as [string, string[]];
      return ids;
    },

    /** Ends up to `limit` sessions whose time is over; returns how many. */
    async sweep(limit: number): Promise<number> {
      return Number(await run("sweep", limit, template("ended")));
    },
  };
}
export type Sessions = ReturnType<typeof createSessions>;
