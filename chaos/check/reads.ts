import type { Op } from "../history.ts";
import { type Evidence, Judge, type Verdict } from "./evidence.ts";
import type { Known } from "./facts.ts";

/** Servers and this suite read their clocks apart; within this nothing is concluded. */
const CLOCK_MS = 5;

/** What readers saw while it happened. */
export function checkReads(evidence: Evidence, known: Known): Verdict[] {
  const byStart = evidence.ops.toSorted((a, b) => a.at - b.at);
  return [
    monotonic(byStart, known),
    ownerReads(byStart, known),
    asOf(byStart, known, evidence),
    ownWrites(byStart, known),
    erased(byStart, known),
    revoked(byStart, known),
  ];
}

/** The view a read looks at: the owner's, search's, or the session's copy. */
function viewOf(op: Op): "owner" | "search" | "session" | undefined {
  const { kind } = op.did;
  if (kind === "read") return "owner";
  if (kind === "search") return "search";
  return kind === "current" ? "session" : undefined;
}

function monotonic(ops: readonly Op[], known: Known): Verdict {
  const judge = new Judge("monotonic", "no reader's view of a person goes back to an earlier revision, or loses them");
  const seen = new Map<string, { revision: number; at: number }>();
  for (const op of ops) {
    const view = viewOf(op);
    if (!view || op.status !== 200) continue;
    const did = op.did as Op["did"] & { user: string; revision?: number; found?: boolean };
    const key = `${op.client} ${view} ${did.user}`;
    const before = seen.get(key);
    const person = known.people.get(did.user);
    if (did.revision !== undefined) {
      const revision = did.revision;
      judge.check(
        !before || revision >= before.revision,
        () =>
          `${op.client} saw ${did.user} in ${view} at revision ${before!.revision}, then ${revision} (${time(op.at)})`,
      );
      seen.set(key, { revision: Math.max(revision, before?.revision ?? 0), at: op.at });
    } else if (did.found === false && before && person && !person.eraseTriedAt) {
      judge.check(false, () => `${op.client} had seen ${did.user} in ${view}, then found nobody (${time(op.at)})`);
    }
  }
  return judge.verdict();
}

function ownerReads(ops: readonly Op[], known: Known): Verdict {
  const judge = new Judge(
    "owner-reads",
    "a read of the owner shows every change acknowledged before it, and never one that was not asked for",
  );
  for (const op of ops) {
    if (op.did.kind !== "read" || op.did.found === undefined) continue;
    const { user, found, revision } = op.did;
    const person = known.people.get(user);
    if (!person || op.at < person.createdAt) continue;
    if (!found) {
      judge.check(
        person.eraseTriedAt !== undefined && person.eraseTriedAt < op.at + op.ms,
        () => `${user} was not found (${time(op.at)})`,
      );
      continue;
    }
    const needed = newestBefore(person.acked, op.at);
    judge.check(
      revision! >= needed,
      () => `${user} was read at ${revision}, ${needed} had been acknowledged (${time(op.at)})`,
    );
    judge.check(person.tried.has(revision!), () => `${user} is at revision ${revision}, which nobody made`);
  }
  return judge.verdict();
}

function asOf(ops: readonly Op[], known: Known, { baseline, alone }: Evidence): Verdict {
  const judge = new Judge(
    "as-of",
    "Quartet-As-Of never claims more than is true: what was acknowledged before it is in the answer",
  );
  const tracks = new Map<string, { tried: number[]; acked: number[] }>();
  for (const track of known.tracks.values()) {
    const of = tracks.get(track.name) ?? { tried: [], acked: [] };
    of.tried.push(track.triedAt);
    if (track.ackedAt) of.acked.push(track.ackedAt);
    tracks.set(track.name, of);
  }
  for (const { tried, acked } of tracks.values()) {
    tried.sort((a, b) => a - b);
    acked.sort((a, b) => a - b);
  }
  const signups = { tried: [] as number[], acked: [] as number[] };
  for (const { ackedAt, triedAt } of known.signups.values()) {
    signups.tried.push(triedAt);
    if (ackedAt) signups.acked.push(ackedAt);
  }
  signups.tried.sort((a, b) => a - b);
  signups.acked.sort((a, b) => a - b);

  for (const op of ops) {
    if (op.asOf === undefined || op.status !== 200) continue;
    const until = op.asOf - CLOCK_MS;
    const { did } = op;
    if (did.kind === "search" || did.kind === "current") {
      const person = known.people.get(did.user);
      if (!person) continue;
      if (person.erasedAt !== undefined && person.erasedAt < until) {
        judge.check(
          did.kind === "search" && did.found === false,
          () => `${did.kind} shows ${did.user}, erased before ${time(until)}`,
        );
        continue;
      }
      if (person.eraseTriedAt !== undefined && person.eraseTriedAt < op.at + op.ms) continue;
      const needed = newestBefore(person.acked, until);
      if (needed === 0) continue;
      judge.check(
        (did.revision ?? 0) >= needed,
        () =>
          `${did.kind} as of ${time(op.asOf!)} shows ${did.user} at ${did.revision ?? "nothing"}; ${needed} was acknowledged before`,
      );
    } else if (did.kind === "count" || did.kind === "signups") {
      if (did.total === undefined) continue;
      const of = did.kind === "count" ? (tracks.get(did.name) ?? { tried: [], acked: [] }) : signups;
      const start = did.kind === "count" ? (baseline.counts[did.name] ?? 0) : baseline.signups;
      const least = start + countBefore(of.acked, until);
      const most = start + countBefore(of.tried, op.at + op.ms);
      const what = did.kind === "count" ? did.name : "sign-ups";
      judge.check(
        did.total >= least,
        () => `${what} as of ${time(op.asOf!)}: ${did.total}, ${least} were acknowledged before`,
      );
      if (alone) judge.check(did.total <= most, () => `${what}: ${did.total}, but only ${most} had been sent`);
    }
  }
  return judge.verdict();
}

function ownWrites(ops: readonly Op[], known: Known): Verdict {
  const judge = new Judge("own-writes", "an answer that says it waited for a write shows it");
  for (const op of ops) {
    const { did } = op;
    if ((did.kind !== "search" && did.kind !== "current") || !did.waited || did.after === undefined) continue;
    const person = known.people.get(did.user);
    if (op.status !== 200 || !person || (person.eraseTriedAt ?? Number.POSITIVE_INFINITY) < op.at + op.ms) continue;
    judge.check(
      (did.revision ?? 0) >= did.after,
      () => `${did.kind} waited for ${did.user} at ${did.after} and shows ${did.revision ?? "nothing"}`,
    );
  }
  return judge.verdict();
}

function erased(ops: readonly Op[], known: Known): Verdict {
  const judge = new Judge(
    "erased",
    "after the receipt nobody sees the erased person, in any answer; the owner shows them never again after the erasure is accepted",
  );
  for (const op of ops) {
    const { did } = op;
    if (did.kind !== "read" && did.kind !== "search" && did.kind !== "current") continue;
    const person = known.people.get(did.user);
    const since = did.kind === "read" ? person?.erasedAt : person?.receiptAt;
    if (since === undefined || op.at <= since || op.status === 0 || op.status >= 500) continue;
    const visible = did.kind === "current" ? op.status === 200 : did.found === true;
    judge.check(
      !visible,
      () => `${op.endpoint} showed ${did.user} ${Math.round(op.at - since)} ms after they were erased`,
    );
  }
  return judge.verdict();
}

function revoked(ops: readonly Op[], known: Known): Verdict {
  const judge = new Judge("revoked", "a revoked token never works again, nor one that was refused once");
  const refused = new Map<string, number>();
  for (const op of ops) {
    if (op.did.kind !== "current") continue;
    const { session } = op.did;
    const facts = known.sessions.get(session);
    if (op.status === 401) {
      if (!refused.has(session)) refused.set(session, op.at + op.ms);
      judge.check(
        !facts || facts.endTriedAt !== undefined || known.people.get(facts.user)?.eraseTriedAt !== undefined,
        () => `session ${session} was refused, though nobody had ended it (${time(op.at)})`,
      );
    }
    if (op.status !== 200) continue;
    const since = refused.get(session);
    judge.check(
      since === undefined || op.at <= since,
      () => `session ${session} was refused and then worked (${time(op.at)})`,
    );
    if (!facts?.endedAt) continue;
    // A changed password takes its way over the events; a revocation is at once.
    if (facts.why === "revoked") {
      judge.check(
        op.at <= facts.endedAt,
        () => `session ${session} worked ${Math.round(op.at - facts.endedAt!)} ms after it was revoked`,
      );
    } else if (op.did.waited) {
      judge.check(false, () => `session ${session} worked although the answer had waited for the changed password`);
    }
  }
  return judge.verdict();
}

function newestBefore(acked: ReadonlyMap<number, number>, moment: number): number {
  let newest = 0;
  for (const [revision, at] of acked) if (at < moment && revision > newest) newest = revision;
  return newest;
}

/** How many of sorted `times` are before `moment`. */
function countBefore(times: readonly number[], moment: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle]! < moment) low = middle + 1;
    else high = middle;
  }
  return low;
}

function time(at: number): string {
  return new Date(at).toISOString().slice(11, 23);
}
