import type { Op } from "../history.ts";

/** What the history says about one person. */
export interface PersonFacts {
  id: string;
  handle: string;
  createdAt: number;
  /** When each revision was acknowledged. */
  acked: Map<number, number>;
  /** Revisions that may have been made. */
  tried: Set<number>;
  /** The highest revision acknowledged. */
  newest: number;
  /** When the erasure was acknowledged, and when it was first asked for, acknowledged or not. */
  erasedAt: number | undefined;
  eraseTriedAt: number | undefined;
  /** When the receipt first said complete. */
  receiptAt: number | undefined;
}

export interface SessionFacts {
  id: string;
  user: string;
  startedAt: number;
  /** When its end was acknowledged: by a revocation, or by a changed password in another session. */
  endedAt: number | undefined;
  /** Its end was asked for. */
  endTriedAt: number | undefined;
  why: "revoked" | "password" | undefined;
}

export interface TrackFacts {
  name: string;
  caller: string;
  id: string;
  /** First acknowledgement; undefined while it is unknown whether it was taken. */
  ackedAt: number | undefined;
  triedAt: number;
}

/** Everything the history knows, gathered once. */
export interface Known {
  people: Map<string, PersonFacts>;
  sessions: Map<string, SessionFacts>;
  tracks: Map<string, TrackFacts>;
  /** Sign-ups: by key, when acknowledged, or undefined. */
  signups: Map<string, { ackedAt: number | undefined; triedAt: number }>;
  /** Log-ins whose outcome is unknown: sessions nobody knows the id of. */
  unknownLogins: number;
}

export interface Window {
  from: number;
  to: number;
}

/** Gathers. Tracked events acknowledged within `exempt` count as unknown: what JetStream had not fsynced may be gone. */
export function gather(ops: readonly Op[], exempt: readonly Window[]): Known {
  const known: Known = {
    people: new Map(),
    sessions: new Map(),
    tracks: new Map(),
    signups: new Map(),
    unknownLogins: 0,
  };
  const byStart = [...ops].sort((a, b) => a.at - b.at);
  for (const op of byStart) {
    const end = op.at + op.ms;
    const { did } = op;
    switch (did.kind) {
      case "create": {
        const before = known.signups.get(did.key);
        known.signups.set(did.key, {
          ackedAt: before?.ackedAt ?? (did.user ? end : undefined),
          triedAt: before?.triedAt ?? op.at,
        });
        if (did.user && !known.people.has(did.user)) {
          known.people.set(did.user, {
            id: did.user,
            handle: did.handle,
            createdAt: end,
            acked: new Map([[1, end]]),
            tried: new Set([1]),
            newest: 1,
            erasedAt: undefined,
            eraseTriedAt: undefined,
            receiptAt: undefined,
          });
        }
        break;
      }
      case "update": {
        const person = known.people.get(did.user);
        if (!person || op.outcome === "refused") break;
        person.tried.add(did.revision);
        if (op.outcome !== "ok") break;
        person.acked.set(did.revision, end);
        person.newest = Math.max(person.newest, did.revision);
        if (did.password) {
          for (const session of known.sessions.values()) {
            if (
              session.user === did.user &&
              session.id !== did.keeps &&
              session.startedAt < op.at &&
              !session.endedAt
            ) {
              Object.assign(session, { endedAt: end, endTriedAt: op.at, why: "password" });
            }
          }
        }
        break;
      }
      case "erase": {
        const person = known.people.get(did.user);
        if (!person || op.outcome === "refused") break;
        person.eraseTriedAt ??= op.at;
        if (op.outcome === "ok") person.erasedAt ??= end;
        break;
      }
      case "receipt": {
        const person = known.people.get(did.user);
        if (person && did.complete) person.receiptAt ??= end;
        break;
      }
      case "login":
        if (did.session) {
          known.sessions.set(did.session, {
            id: did.session,
            user: did.user,
            startedAt: end,
            endedAt: undefined,
            endTriedAt: undefined,
            why: undefined,
          });
        } else if (op.outcome === "unknown") known.unknownLogins++;
        break;
      case "revoke":
        for (const id of did.sessions) {
          const session = known.sessions.get(id);
          if (!session) continue;
          session.endTriedAt ??= op.at;
          if (op.outcome === "ok" && !session.endedAt) Object.assign(session, { endedAt: end, why: "revoked" });
        }
        break;
      case "track":
        if (op.outcome === "refused") break;
        for (const id of did.ids) {
          const key = `${did.caller}\n${id}`;
          const track = known.tracks.get(key) ?? {
            name: did.name,
            caller: did.caller,
            id,
            ackedAt: undefined,
            triedAt: op.at,
          };
          const lost = exempt.some((w) => end >= w.from && end <= w.to);
          if (op.outcome === "ok" && !lost) track.ackedAt ??= end;
          known.tracks.set(key, track);
        }
        break;
    }
  }
  return known;
}
