import { setTimeout as sleep } from "node:timers/promises";
import { CONSUMERS, inboxPrefix, rebuildConsumer, STREAMS } from "@quartet/contracts";
import { type Broker, inspectConsumer, JetStreamFailure, readStream } from "@quartet/projection";
import { countAudit, type Logger, metrics, watchTask } from "@quartet/service";
import { type AuditFinding, saveFinding } from "../store/audits.ts";
import type { ClickHouse } from "../store/client.ts";
import { insertFacts } from "../store/facts.ts";
import {
  BEFORE,
  fingerprint,
  type HeldRow,
  lastHeld,
  RANGE,
  rangeOf,
  readLedger,
  removeRows,
  sealedStreams,
  summarise,
  TooMuchAtOnce,
  WINDOW,
  windowsOf,
  writeEntries,
} from "../store/ledger.ts";
import { isRebuilding } from "../store/rebuild.ts";
import { asOf, readWatermarks } from "../store/watermarks.ts";
import { checkRanges, type Difference, type ReadMessages } from "./ledger-check.ts";
import { createMarks, messageTime } from "./marks.ts";

/** Ranges that are looked at in one go, and bytes of messages that they may have together. */
const AT_ONCE = 8;
const BYTES_AT_ONCE = 8 * 1024 * 1024;
/** Windows of one round. A hundred million facts have a hundred; rows that claim to come from anywhere may have any number. */
const MOST_WINDOWS = 2000;
/** So many runs of ranges that differ are looked at row by row in one round, and so many people named. */
const MOST_RUNS = 64;
const MOST_USERS = 1000;
/** A round ends here; what is left is for the next. */
const ROUND_MS = 120_000;
/** At most this share of the time is spent on rounds that nobody asked for. */
const SHARE = 0.1;
const CONFIRM_MS = 10_000;
/** After a large import there is much to seal at once: others have to work too. */
const BREATH_MS = 20;

export interface FactAudit {
  /** Seals what has come, compares all, mends what is wrong. Rounds do not overlap: whoever asks during one gets the next. Rejects if a store is away. */
  round(): Promise<AuditFinding>;
  /** Seals everything up to a sequence of FACTS: after this its messages may be purged. */
  sealUpto(seq: number): Promise<void>;
  /**
   * Up to where FACTS may forget: applied by whoever reads it, and sealed. Does not wait for what is still to be sealed, but has it begun.
   * Rejects if a store is away.
   */
  sealed(): Promise<{ stream: string; upto: number }>;
  last(): AuditFinding | undefined;
}

interface View {
  /** Creation time of the stream as it is now. */
  stream: string;
  first: number;
  last: number;
  /** Everything up to here is in the store. */
  floor: number;
  streams: string[];
  /** Up to where each stream is sealed, as the ledger says. */
  ledger: Map<string, number>;
  sealed: number;
}

/** A round that came to no end: why, and of how much. */
class AuditUnfinished extends Error {
  override name = "AuditUnfinished";
}

/** Whether a round has stopped before its end and not because something is away. */
const isTooMuch = (error: unknown) => error instanceof AuditUnfinished || error instanceof TooMuchAtOnce;

/**
 * Compares the facts with FACTS and with the ledger. What FACTS still has is compared message by message where a digest differs; what it has no longer, with
 * the hashes that the ledger kept. A difference is drift only if it is still there after a later as-of; then missing and altered rows are inserted
 * again from their message, invented ones are deleted, and what nobody can restore is told once.
 */
export function createFactAudit(clickhouse: ClickHouse, broker: Broker, { logger }: { logger: Logger }): FactAudit {
  const { stream: name, durable } = CONSUMERS.analytics;
  let last: AuditFinding | undefined;
  let clean = "";
  /** Sealed without a fact in it: only heartbeats. Kept here, because the ledger needs no row for that. */
  let quiet = { stream: "", upto: 0 };
  let seen = { stream: "", last: 0 };
  /** Sequences that the broker lost and gave out again: rows may come from what was there before. */
  let lost = { from: 0, to: 0 };
  /** Since such a loss only up to here what is there now is sealed; undefined: all that the ledger says. */
  let again: number | undefined;
  const marks = createMarks(async (seq) => {
    const jsm = await broker.require().jetstreamManager({ checkAPI: false, timeout: 3000 });
    return messageTime(jsm, name, seq);
  });
  let running: Promise<unknown> = Promise.resolve();
  /** Where an unfinished round stopped. */
  let next = "";
  let asked: Promise<AuditFinding> | undefined;
  const unfinished = metrics.gauge("quartet_audit_unfinished");
  unfinished.set({ store: "analytics" }, 0);

  const read: ReadMessages = (from, to) =>
    readStream(broker.require(), name, "facts.>", { from, to }, inboxPrefix("analytics"));

  const streamNow = async () => {
    const jsm = await broker.require().jetstreamManager({ checkAPI: false, timeout: 3000 });
    return jsm.streams.info(name);
  };
  const end = async (): Promise<number> => (await streamNow()).state.last_seq;

  const look = async (): Promise<View> => {
    const nc = broker.require();
    const { created, state } = await streamNow();
    const consumer = await inspectConsumer(nc, name, durable);
    const stream = String(created);
    const ledger = await sealedStreams(clickhouse);
    const known = [...ledger.keys()].filter((one) => one !== BEFORE && one !== stream);
    const streams = [...known, stream].sort((a, b) => Date.parse(a) - Date.parse(b));
    const written = sealedIn(ledger, stream);
    if (seen.stream !== stream) {
      seen = { stream, last: written };
      lost = { from: 0, to: 0 };
      again = undefined;
      marks.forget();
    }
    // The broker may have lost what it had not written to disk: those sequences are given out again, perhaps all of them by now.
    const broken = (await marks.broken(state.last_seq)) ?? (state.last_seq < seen.last ? state.last_seq : undefined);
    if (broken !== undefined) {
      const to = Math.max(lost.to, seen.last, await lastHeld(clickhouse, streams));
      lost = { from: lost.to > 0 ? Math.min(lost.from, broken) : broken, to };
      again = Math.min(again ?? broken, broken);
      seen.last = state.last_seq;
      logger.warn(
        { stream: name, from: lost.from + 1, to },
        "the stream has lost its end: what came since is sealed anew",
      );
    }
    marks.note(state.last_seq, state.last_ts);
    seen.last = Math.max(seen.last, state.last_seq);
    const sealed = Math.min(
      Math.max(written, quiet.stream === stream ? quiet.upto : 0),
      state.last_seq,
      again ?? Number.POSITIVE_INFINITY,
    );
    const floor = Math.min(consumer.settled, state.last_seq);
    return { stream, first: state.first_seq, last: state.last_seq, floor, streams, ledger, sealed };
  };

  const check = (view: View, stream: string, from: number, to: number, upto: number) => {
    const current = stream === view.stream;
    const known = sealedIn(view.ledger, stream);
    const adopt = (row: HeldRow): boolean => {
      // The first look at a store takes over what it finds.
      if (view.ledger.size === 0) return !current || row.seq <= upto;
      if (stream === BEFORE) return false;
      // A stream that was made anew, or has lost its end, took with it what was not yet sealed; so did age.
      if (!current) return row.seq > known;
      return row.seq <= unsealedGone(view) || (row.seq > lost.from && row.seq <= lost.to);
    };
    return checkRanges({
      clickhouse,
      streams: view.streams,
      stream,
      from,
      to,
      upto: current ? upto : Number.POSITIVE_INFINITY,
      adopt,
      ...(current ? { read, end } : {}),
    });
  };

  /** Looks twice, mends what is wrong both times, and writes down what is right. Returns false if that is for the next round. */
  const settle = async (
    view: View,
    stream: string,
    from: number,
    to: number,
    upto: number,
    finding: AuditFinding,
  ): Promise<boolean> => {
    let seen = await check(view, stream, from, to, upto);
    if (seen.differences.length > 0) {
      const before = new Map(seen.differences.map((d) => [`${d.kind}:${d.id}:${d.ver}`, d]));
      await laterAsOf(clickhouse);
      seen = await check(view, stream, from, to, upto);
      const drift = seen.differences.filter((d) => before.has(`${d.kind}:${d.id}:${d.ver}`));
      // What was not there before is for the next round.
      const more = drift.length < seen.differences.length;
      note(finding, drift);
      await mend(clickhouse, drift);
      if (more) return false;
      if (drift.length > 0)
        logger.warn({ stream, from, to, ...countKinds(drift) }, "drift of facts: mended from the stream");
    }
    finding.compared += seen.compared;
    await writeEntries(
      clickhouse,
      seen.entries
        .filter(({ range }) => stream !== view.stream || range * RANGE < upto)
        .map(({ range, rows }) => ({
          stream,
          range,
          upto: stream === view.stream ? Math.min((range + 1) * RANGE, upto) : (range + 1) * RANGE,
          rows,
        })),
    );
    return true;
  };

  /**
   * Seals in order and stops at what it cannot, so that everything below what the ledger says is sealed: FACTS may be purged up to there. Returns up to
   * where that is.
   */
  const seal = async (view: View, upto: number, finding: AuditFinding): Promise<number> => {
    let reached = upto;
    if (view.ledger.size === 0 || view.sealed < upto) {
      const first = rangeOf(view.sealed + 1);
      const final = rangeOf(upto);
      /** Bytes of the messages of each range that has any. */
      const busy = new Map<number, number>();
      const add = (range: number, bytes = 0) => busy.set(range, (busy.get(range) ?? 0) + bytes);
      for await (const message of read(view.sealed + 1, upto)) add(rangeOf(message.seq), message.data.length);
      // So that the ledger of this stream is not empty, and is not taken for a first look again.
      if (view.ledger.size === 0) {
        for (const window of await windowsOf(clickhouse, view.streams, MOST_WINDOWS)) {
          for (const { stream, range } of await summarise(clickhouse, view.streams, window, {
            after: upto,
            upTo: view.last,
          })) {
            if (stream === view.stream) add(range);
            else await settle(view, stream, range, range, 0, finding);
          }
        }
        add(Math.max(0, final));
      } else for (let from = first; from < rangeOf(view.first); from++) add(from);
      for (const [from, to] of runs(new Map([...busy].filter(([range]) => range <= final)))) {
        if (!(await settle(view, view.stream, from, to, upto, finding))) {
          reached = Math.max(view.sealed, from * RANGE);
          break;
        }
        await sleep(BREATH_MS);
      }
    }
    quiet = { stream: view.stream, upto: reached };
    if (again !== undefined) again = reached >= lost.to ? undefined : Math.max(again, reached);
    return reached;
  };

  const compare = async (finding: AuditFinding): Promise<void> => {
    const view = await look();
    await seal(view, view.floor, finding);
    const print = await fingerprint(clickhouse);
    if (print === clean && finding.drift === 0 && last) {
      finding.compared = last.compared;
      return;
    }
    finding.compared = 0;
    const now = await look();
    const until = performance.now() + ROUND_MS;
    const windows = await windowsOf(clickhouse, now.streams, MOST_WINDOWS + 1);
    // Where the last round had to stop this one begins.
    const at = windows.findIndex(({ stream, window }) => `${stream}:${window}` === next);
    next = "";
    let differing = 0;
    let looked = 0;
    for (const place of [...windows.slice(Math.max(at, 0)), ...windows.slice(0, Math.max(at, 0))]) {
      const wrong = await wrongIn(now, place, finding);
      for (const [from, to] of runs(wrong)) {
        const late = performance.now() > until;
        if (late || looked === MOST_RUNS) {
          next = `${place.stream}:${place.window}`;
          const why = late ? "it takes too long" : "too many ranges differ";
          throw new AuditUnfinished(`${why}; stopped in window ${place.window}, the next round goes on there`);
        }
        looked++;
        const { compared } = finding;
        await settle(now, place.stream, from, to, now.sealed, finding);
        // They have been counted with their window.
        finding.compared = compared;
      }
      differing += wrong.size;
      if (performance.now() > until) {
        next = `${place.stream}:${place.window}`;
        throw new AuditUnfinished(`it takes too long; stopped in window ${place.window}, the next round goes on there`);
      }
    }
    if (windows.length > MOST_WINDOWS) {
      throw new AuditUnfinished(`rows of more than ${MOST_WINDOWS * WINDOW} ranges: somebody put them there by hand`);
    }
    clean = differing === 0 && finding.drift === 0 ? print : "";
  };

  /** The ranges of a window in which table and ledger differ. */
  const wrongIn = async (
    view: View,
    place: { stream: string; window: number },
    finding: AuditFinding,
  ): Promise<Map<number, number>> => {
    const held = await summarise(clickhouse, view.streams, place, { after: view.sealed, upTo: view.last });
    const entries = await readLedger(clickhouse, place.stream, place.window);
    const known = new Map(entries.map((entry) => [entry.range, entry]));
    const wrong = new Map<number, number>();
    for (const row of held) {
      finding.compared += row.n;
      const entry = known.get(row.range);
      known.delete(row.range);
      if (!(entry && entry.n === row.n && entry.x1 === row.x1 && entry.x2 === row.x2)) wrong.set(row.range, 0);
    }
    for (const { range, n } of known.values()) if (n > 0) wrong.set(range, 0);
    return wrong;
  };

  /** One after the other. */
  const afterOthers = <T>(work: () => Promise<T>): Promise<T> => {
    const mine = running.catch(() => {}).then(work);
    running = mine;
    mine.catch(() => {});
    return mine;
  };

  let queued: Promise<number> | undefined;
  /** Everybody who asks before it begins shares it: hundreds of erasures that ask again and again must not each have a turn. */
  const sealAll = (): Promise<number> => {
    queued ??= afterOthers(async () => {
      queued = undefined;
      const view = await look();
      const finding = { compared: 0, drift: 0, mended: 0, users: [], startedAt: "", checkedAt: "" };
      const { sealed, floor, ledger } = view;
      return sealed < floor || ledger.size === 0 ? await seal(view, floor, finding) : floor;
    });
    return queued;
  };

  return {
    last: () => last,
    round() {
      // However many ask while one runs, one more is enough.
      asked ??= afterOthers(async () => {
        asked = undefined;
        const finding: AuditFinding = {
          compared: 0,
          drift: 0,
          mended: 0,
          users: [],
          startedAt: new Date().toISOString(),
          checkedAt: "",
        };
        try {
          await compare(finding);
          unfinished.set({ store: "analytics" }, 0);
        } catch (error) {
          // A store that is away is told elsewhere.
          if (isTooMuch(error)) unfinished.set({ store: "analytics" }, 1);
          throw error;
        }
        finding.checkedAt = new Date().toISOString();
        last = finding;
        await saveFinding(clickhouse, finding);
        countAudit(metrics, "analytics", finding);
        return finding;
      });
      return asked;
    },
    async sealUpto(seq) {
      if ((await sealAll()) < seq) throw new Error("the projector is not there yet");
    },
    async sealed() {
      sealAll().catch(() => {});
      const { created, state } = await streamNow();
      const stream = String(created);
      const readers = await readersOf(clickhouse);
      const floors = await Promise.all(readers.map((reader) => settledBy(broker, reader)));
      const upto = sealedIn(await sealedStreams(clickhouse), stream);
      return { stream, upto: Math.min(upto, state.last_seq, again ?? upto, ...floors) };
    },
  };
}

/** Who has to have read a message before it may go: the projector, and that of a rebuild under way. */
async function readersOf(clickhouse: ClickHouse): Promise<string[]> {
  const { durable } = CONSUMERS.analytics;
  return (await isRebuilding(clickhouse)) ? [durable, rebuildConsumer("analytics")] : [durable];
}

/** Up to where a consumer has settled everything; 0 if it is not there (yet). */
async function settledBy(broker: Broker, consumer: string): Promise<number> {
  try {
    return (await inspectConsumer(broker.require(), CONSUMERS.analytics.stream, consumer)).settled;
  } catch (error) {
    if (error instanceof JetStreamFailure && error.status === 404) return 0;
    throw error;
  }
}

/** Runs the audit for ever, every `everyMs`; of several processes one at a time. */
export async function runFactAudit(
  audit: FactAudit,
  recent: () => Promise<Date | undefined>,
  { everyMs, logger, signal }: { everyMs: number; logger: Logger; signal: AbortSignal },
): Promise<void> {
  const watch = watchTask("audit", { logger });
  let told = "";
  while (!signal.aborted) {
    const began = performance.now();
    let worked = true;
    try {
      const at = await recent();
      if (!at || Date.now() - at.getTime() >= everyMs / 2) await audit.round();
      told = "";
      watch.ok();
    } catch (error) {
      watch.failed(error);
      worked = isTooMuch(error);
      // A store that is away says the same for minutes; a mistake has to be told, once.
      const reason = (error as Error).message;
      if (reason !== told) logger.warn({ reason }, "the audit of the facts has to wait");
      told = reason;
    }
    const rest = (performance.now() - began) * (1 / SHARE - 1);
    await sleep(worked ? Math.max(everyMs, rest) : everyMs, undefined, { signal }).catch(() => {});
  }
}

function sealedIn(ledger: Map<string, number>, stream: string): number {
  return ledger.get(stream) ?? 0;
}

/** Sequences that have left the stream and were never sealed end here. */
function unsealedGone(view: View): number {
  return view.sealed < view.first - 1 ? view.first - 1 : 0;
}

/** Neighbouring ranges together, at most AT_ONCE of them and as much as the memory is meant for. The map says how many bytes each has. */
function runs(ranges: Map<number, number>): [from: number, to: number][] {
  const found: [number, number][] = [];
  let bytes = 0;
  for (const [range, size] of [...ranges].sort(([a], [b]) => a - b)) {
    const run = found.at(-1);
    bytes += size;
    if (run && range === run[1] + 1 && range - run[0] < AT_ONCE && bytes <= BYTES_AT_ONCE) run[1] = range;
    else {
      found.push([range, range]);
      bytes = size;
    }
  }
  return found;
}

function countKinds(drift: Difference[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { kind } of drift) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

function note(finding: AuditFinding, drift: Difference[]): void {
  finding.drift += drift.length;
  finding.mended += drift.filter((d) => d.insert || d.remove).length;
  for (const { kind, userId } of drift) {
    if (finding.users.length < MOST_USERS) finding.users.push({ id: userId, kind });
  }
}

async function mend(clickhouse: ClickHouse, drift: Difference[]): Promise<void> {
  const forged = drift.flatMap((d) => d.remove ?? []);
  if (forged.length > 0) await removeRows(clickhouse, forged);
  // After that: the row of an altered one has the same version, and of equal versions the last insert counts.
  await insertFacts(
    clickhouse,
    drift.flatMap((d) => d.insert ?? []),
  );
}

/** Waits until the store is true as of a moment later than now says. */
async function laterAsOf(clickhouse: ClickHouse): Promise<void> {
  const before = asOf(await readWatermarks(clickhouse))?.getTime() ?? 0;
  for (const deadline = performance.now() + CONFIRM_MS; ; await sleep(200)) {
    if ((asOf(await readWatermarks(clickhouse))?.getTime() ?? 0) > before) return;
    if (performance.now() > deadline) throw new Error(`${STREAMS.FACTS.name}: no later as-of yet`);
  }
}
