import type { FactEvent } from "@quartet/contracts";
import type { RawMessage } from "@quartet/projection";
import type { ClickHouse } from "../store/client.ts";
import { erasedAmong } from "../store/erasure.ts";
import { anonymous, type Fact } from "../store/facts.ts";
import {
  type HeldRow,
  RANGE,
  type RowHashes,
  rangeOf,
  readEntries,
  readRows,
  readRowsOf,
  rowHashes,
} from "../store/ledger.ts";
import { decodeFact, toFact } from "./decode.ts";

/** Reads messages of the current stream; both ends included. */
export type ReadMessages = (from: number, to: number) => AsyncIterable<RawMessage>;

/** The row that a message of the stream asks for. */
interface Expected extends RowHashes {
  id: string;
  ver: string;
  seq: number;
  range: number;
  fact: Fact;
  /** Of an erased person: the hash of a row that is not anonymised yet. */
  living?: bigint;
}

/** A row that is not as it must be, and what would mend it. */
export interface Difference {
  kind: "missing" | "altered" | "invented" | "lost";
  /** The store's key of the fact and the version of the row. Equal in two looks: it is the same difference. */
  id: string;
  ver: string;
  userId: string | null;
  insert?: Fact;
  remove?: { id: string; ver: string };
}

export interface RangeCheck {
  differences: Difference[];
  /** What the ledger has to say from now on, once the differences are mended. */
  entries: { range: number; rows: RowHashes[] }[];
  compared: number;
}

export interface CheckOptions {
  clickhouse: ClickHouse;
  /** All streams the ledger knows, oldest first. */
  streams: string[];
  /** The stream whose ranges are looked at. */
  stream: string;
  from: number;
  to: number;
  /** Sealed up to here; rows after it are left alone. Infinity for a stream that is gone. */
  upto: number;
  /** Whether a row that neither ledger nor stream knows is taken over as it is, because nothing can tell where it is from. */
  adopt(row: HeldRow): boolean;
  /** Absent for a stream that is gone. */
  read?: ReadMessages;
  /** The last sequence of the current stream: what claims to come from after it was never sent. */
  end?: () => Promise<number>;
}

const keyOf = (row: { id: string; ver: string }) => `${row.id}:${row.ver}`;

/** The rows the messages of some ranges ask for. The first message with an id counts. */
async function expectedOf(clickhouse: ClickHouse, messages: AsyncIterable<RawMessage>): Promise<Map<string, Expected>> {
  const facts: { fact: Fact; seq: number }[] = [];
  for await (const message of messages) {
    try {
      const event = decodeFact(message);
      if (event.type !== "quartet.heartbeat.v1")
        facts.push({ fact: toFact(event as FactEvent, message), seq: message.seq });
    } catch {
      // Parked as a dead letter: no row.
    }
  }
  const people = new Set(facts.flatMap(({ fact }) => fact.userId ?? []));
  const erased = people.size > 0 ? await erasedAmong(clickhouse, people) : new Set<string>();
  const expected = new Map<string, Expected>();
  for (const { fact, seq } of facts) {
    const gone = fact.userId !== null && erased.has(fact.userId);
    const row = gone ? anonymous(fact) : fact;
    const hashes = rowHashes(row);
    if (expected.has(hashes.id)) continue;
    const living = gone ? { living: rowHashes(fact).h2 } : {};
    expected.set(hashes.id, { ...hashes, ...living, seq, range: rangeOf(seq), fact: row });
  }
  return expected;
}

/** Compares the rows of some ranges with the stream, as far as it still has them, and with the ledger. Changes nothing. */
export async function checkRanges(options: CheckOptions): Promise<RangeCheck> {
  const { clickhouse, streams, stream, from, to, upto, adopt, read } = options;
  const ledger = await readEntries(clickhouse, stream, from, to);
  const all = await readRows(clickhouse, streams, stream, from, to);
  const end = (await options.end?.()) ?? Number.POSITIVE_INFINITY;
  // What the ledger knows stays known, also while the stream that lost its end has not come so far again.
  const held = all.filter((row) => row.seq <= upto || row.seq > end || ledger.get(row.range)?.has(row.h1));
  const expected = read
    ? await expectedOf(clickhouse, read(from * RANGE + 1, Math.min((to + 1) * RANGE, upto)))
    : new Map<string, Expected>();
  const byId = new Map(held.map((row) => [row.id, row]));
  const elsewhere = await readRowsOf(
    clickhouse,
    streams,
    [...expected.keys()].filter((id) => !byId.has(id)),
  );
  const vouched = createVoucher(options);

  const differences: Difference[] = [];
  const rows = new Map<number, RowHashes[]>();
  const keep = (range: number, { h1, h2 }: RowHashes) => {
    const list = rows.get(range) ?? [];
    if (list.length === 0) rows.set(range, list);
    list.push({ h1, h2 });
  };
  const right = new Set<string>();
  for (const e of expected.values()) {
    const here = byId.get(e.id);
    const row = here ?? elsewhere.get(e.id);
    if (row && row.ver !== e.ver && BigInt(row.ver) > BigInt(e.ver)) {
      // A message that came earlier has the row already: if there was one.
      const entry = ledger.get(row.range);
      const of = here ? stream : (elsewhere.get(e.id)?.stream ?? stream);
      if ((here && entry?.has(row.h1)) || (await vouched({ ...row, stream: of }))) continue;
      // Or the broker has lost that message, and this is the same fact sent again.
      if (saysTheSame(e, row)) {
        if (here) {
          keep(row.range, row);
          right.add(keyOf(row));
        }
        continue;
      }
    }
    keep(e.range, e);
    if (row?.ver === e.ver) {
      right.add(keyOf(e));
      // One that still names an erased person is the anonymiser's to change.
      if (row.h1 === e.h1 && (row.h2 === e.h2 || row.h2 === e.living)) continue;
      differences.push({ kind: "altered", id: e.id, ver: e.ver, userId: e.fact.userId, insert: e.fact });
    } else differences.push({ kind: "missing", id: e.id, ver: e.ver, userId: e.fact.userId, insert: e.fact });
  }

  const found = new Set<bigint>();
  for (const row of held) {
    found.add(row.h1);
    if (right.has(keyOf(row))) continue;
    const entry = ledger.get(row.range);
    const sealed = entry?.get(row.h1);
    const whole = sealed === row.h2 || row.userId === null;
    if (sealed !== undefined && whole) keep(row.range, row);
    else if (sealed !== undefined) {
      keep(row.range, row);
      differences.push({ kind: "lost", id: row.id, ver: row.ver, userId: row.userId });
    } else if (adopt(row)) keep(row.range, row);
    else {
      const remove = { id: row.id, ver: row.ver };
      differences.push({ kind: "invented", ...remove, userId: row.userId, remove });
    }
  }
  for (const e of expected.values()) found.add(e.h1);
  for (const entry of ledger.values()) {
    for (const h1 of entry.keys()) {
      if (!found.has(h1)) differences.push({ kind: "lost", id: h1.toString(), ver: "", userId: null });
    }
  }
  const entries = Array.from({ length: to - from + 1 }, (_, i) => ({
    range: from + i,
    rows: rows.get(from + i) ?? [],
  }));
  return { differences, entries, compared: held.length };
}

/** Whether a row says what a message does, but for when it was accepted. */
function saysTheSame(e: Expected, row: HeldRow): boolean {
  const { h1, h2 } = rowHashes(e.fact, row.ver);
  return row.h1 === h1 && (row.h2 === h2 || row.h2 === e.living);
}

/** Whether a row is what an earlier message with the same id left: the ledger says so, or the message is still there, or nothing can tell any more. */
function createVoucher({ clickhouse, stream, adopt, read }: CheckOptions) {
  const cache = new Map<string, Map<bigint, bigint> | undefined>();
  return async (row: HeldRow & { stream: string }): Promise<boolean> => {
    const key = `${row.stream}:${row.range}`;
    if (!cache.has(key)) {
      cache.set(key, (await readEntries(clickhouse, row.stream, row.range, row.range)).get(row.range));
    }
    if (cache.get(key)?.has(row.h1)) return true;
    if (row.stream !== stream || adopt(row)) return true;
    if (!read) return false;
    for await (const message of read(row.seq, row.seq)) {
      try {
        const event = decodeFact(message);
        return rowHashes(toFact(event as FactEvent, message)).id === row.id;
      } catch {
        return false;
      }
    }
    return false;
  };
}
