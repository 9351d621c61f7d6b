import { createHash } from "node:crypto";
import type { ClickHouse } from "./client.ts";
import { ANONYMOUS, type Fact, factKey, precedence, storedProperties } from "./facts.ts";

/**
 * The ledger says, for each range of stream sequences, which rows the store must hold: two hashes a row. `h1` is of what stays for ever, `h2` of what
 * an erasure takes away (0: nothing is left of it). A range is written when the projector has passed it, from the messages themselves; after the
 * messages have aged away, or were purged with a person, the ledger alone remembers what was there.
 */
export const RANGE = 4096;

/** The range that a sequence falls into. */
export const rangeOf = (seq: number): number => Math.floor((seq - 1) / RANGE);

/** Rows from before the ledger: of streams that are gone. */
export const BEFORE = "";

export interface RowHashes {
  h1: bigint;
  h2: bigint;
}

/** What is known of one range without reading its rows. */
export interface RangeSummary {
  stream: string;
  range: number;
  upto: number;
  n: number;
  x1: bigint;
  x2: bigint;
}

/** A row of `facts` as the audit sees it. */
export interface HeldRow extends RowHashes {
  id: string;
  ver: string;
  range: number;
  seq: number;
  userId: string | null;
}

const SEQ = "bitNot(toUInt64(ver))";
const ACCEPTED = "bitNot(toUInt64(bitShiftRight(ver, 64)))";
const half = (text: string) => `reinterpretAsUInt64(substring(MD5(${text}), 1, 8))`;
/** In SQL the same as `rowHashes` in JavaScript. */
export const H1 = half(
  "concat(toString(id), '|', toString(ver), '|', toString(kind), '|', name, '|', toString(toUnixTimestamp64Milli(occurred_at)), '|', reason, '|', toString(reinterpretAsUInt64(duration)))",
);
const PAIRS =
  "arrayStringConcat(arrayMap((k, v) -> concat(toString(length(k)), ':', k, toString(length(v)), ':', v), mapKeys(mapSort(properties)), mapValues(mapSort(properties))))";
const H2 = `if(user_id = toUUID('${ANONYMOUS}') AND empty(properties), 0, ${half(`concat(toString(user_id), '|', ${PAIRS})`)})`;

function halfMd5(text: string): bigint {
  return createHash("md5").update(text).digest().readBigUInt64LE(0);
}

function doubleBits(value: number): bigint {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes.readBigUInt64LE(0);
}

/** The hashes of a fact's row, or of one that has another version. */
export function rowHashes(
  fact: Fact,
  ver: string = precedence(fact.acceptedAt, fact.sequence),
): RowHashes & { id: string; ver: string } {
  const id = factKey(fact.id);
  const kept = [
    id,
    ver,
    fact.kind,
    fact.name,
    fact.occurredAt,
    fact.reason ?? "",
    doubleBits(fact.durationSeconds ?? 0),
  ];
  const pairs = Object.entries(storedProperties(fact))
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map(([k, v]) => `${Buffer.byteLength(k)}:${k}${Buffer.byteLength(v)}:${v}`);
  const nothing = fact.userId === null && pairs.length === 0;
  return {
    id,
    ver,
    h1: halfMd5(kept.join("|")),
    h2: nothing ? 0n : halfMd5(`${fact.userId ?? ANONYMOUS}|${pairs.join("")}`),
  };
}

/** Where a row belongs: number of the stream it came from (1 = the first of `streams`, 0 = before all of them) and range in it. */
const PLACE = `arrayLastIndex(b -> b <= ${ACCEPTED}, arrayMap(b -> toUInt64(b), {bounds:Array(String)})) AS stream_no,
  if(stream_no = 0, toUInt64(0), toUInt64(intDiv(toUInt64(${SEQ} - 1), ${RANGE}))) AS range`;

/** Creation times of streams as ns since 1970, to the millisecond: as precise as the time of a message is kept. */
function boundsOf(streams: string[]): string[] {
  return streams.map((created) => (BigInt(Date.parse(created)) * 1_000_000n).toString());
}

type Raw = Record<string, string | number>;

/** How many ranges are looked at together: some kilobytes here, a million rows at most that are hashed at once there. */
export const WINDOW = 256;
/** Rows that are taken into memory at once. A run of ranges has less, but for rows that somebody put there by hand. */
const MOST_ROWS = 40_000;
const LONG = { timeoutMs: 60_000, background: true } as const;

/** There is more than one look can hold in memory. */
export class TooMuchAtOnce extends Error {
  override name = "TooMuchAtOnce";
}

/** The streams that the ledger knows, and up to where each is sealed. Throws StoreUnavailable. */
export async function sealedStreams(clickhouse: ClickHouse): Promise<Map<string, number>> {
  const rows = await clickhouse.read<Raw>("SELECT stream, max(upto) AS upto FROM ledger GROUP BY stream LIMIT 1000");
  return new Map(rows.map((r) => [String(r.stream), Number(r.upto)]));
}

/** What the ledger has of a window of one stream, without the rows' hashes. Throws StoreUnavailable. */
export async function readLedger(clickhouse: ClickHouse, stream: string, window: number): Promise<RangeSummary[]> {
  const rows = await clickhouse.read<Raw>(
    `SELECT stream, range, upto, n, toString(x1) AS x1, toString(x2) AS x2 FROM ledger FINAL
      WHERE stream = {stream:String} AND range >= {from:UInt64} AND range < {to:UInt64}`,
    { stream, from: window * WINDOW, to: (window + 1) * WINDOW },
  );
  return rows.map((r) => ({
    stream: String(r.stream),
    range: Number(r.range),
    upto: Number(r.upto),
    n: Number(r.n),
    x1: BigInt(r.x1 as string),
    x2: BigInt(r.x2 as string),
  }));
}

/** The row hashes of some ranges of one stream. */
export async function readEntries(
  clickhouse: ClickHouse,
  stream: string,
  from: number,
  to: number,
): Promise<Map<number, Map<bigint, bigint>>> {
  const rows = await clickhouse.read<{ range: number; h1: string[]; h2: string[] }>(
    `SELECT range, arrayMap(h -> toString(h), h1) AS h1, arrayMap(h -> toString(h), h2) AS h2 FROM ledger FINAL
      WHERE stream = {stream:String} AND range BETWEEN {from:UInt64} AND {to:UInt64}`,
    { stream, from, to },
  );
  return new Map(
    rows.map((r) => [Number(r.range), new Map(r.h1.map((h, i) => [BigInt(h), BigInt(r.h2[i] as string)]))]),
  );
}

/** Writes what the rows of a range must be. */
export async function writeEntries(
  clickhouse: ClickHouse,
  ranges: { stream: string; range: number; upto: number; rows: RowHashes[] }[],
): Promise<void> {
  if (ranges.length === 0) return;
  const written = Date.now();
  const xor = (all: bigint[]) => all.reduce((sum, h) => sum ^ h, 0n).toString();
  await clickhouse.insert(
    "ledger",
    ["stream", "range", "upto", "h1", "h2", "n", "x1", "x2", "written"],
    ranges.map(({ stream, range, upto, rows }) => {
      const sorted = rows.toSorted((a, b) => (a.h1 < b.h1 ? -1 : 1));
      const h1 = sorted.map((r) => r.h1);
      const h2 = sorted.map((r) => r.h2);
      return [stream, range, upto, h1.map(String), h2.map(String), rows.length, xor(h1), xor(h2), written];
    }),
  );
}

/** The windows in which the ledger or `facts` has anything, at most `limit` of them. */
export async function windowsOf(
  clickhouse: ClickHouse,
  streams: string[],
  limit: number,
): Promise<{ stream: string; window: number }[]> {
  const rows = await clickhouse.read<Raw>(
    `SELECT DISTINCT stream_no, window FROM (
       SELECT stream_no, intDiv(range, ${WINDOW}) AS window FROM (SELECT ${PLACE} FROM facts) GROUP BY stream_no, window
       UNION ALL
       SELECT indexOf({streams:Array(String)}, stream) AS stream_no, intDiv(range, ${WINDOW}) AS window FROM ledger
        WHERE n > 0 GROUP BY stream_no, window)
      ORDER BY stream_no, window LIMIT {limit:UInt64}`,
    { bounds: boundsOf(streams), streams, limit },
    LONG,
  );
  return rows.map((r) => ({ stream: streams[Number(r.stream_no) - 1] ?? BEFORE, window: Number(r.window) }));
}

/** What `facts` holds in a window of one stream, range by range; rows of the last stream within (after, upTo] are left out: they are not sealed yet. */
export async function summarise(
  clickhouse: ClickHouse,
  streams: string[],
  { stream, window }: { stream: string; window: number },
  unsealed: { after: number; upTo: number },
): Promise<Omit<RangeSummary, "upto">[]> {
  const rows = await clickhouse.read<Raw>(
    `SELECT stream_no, range, count() AS n, toString(groupBitXor(h1)) AS x1, toString(groupBitXor(h2)) AS x2 FROM (
       SELECT ${PLACE}, ${SEQ} AS seq, ${H1} AS h1, ${H2} AS h2 FROM facts FINAL)
      WHERE stream_no = {no:UInt64} AND range >= {from:UInt64} AND range < {to:UInt64} AND NOT (stream_no = {last:UInt64} AND seq > {after:UInt64} AND seq <= {upTo:UInt64})
      GROUP BY stream_no, range`,
    {
      bounds: boundsOf(streams),
      no: streams.indexOf(stream) + 1,
      from: window * WINDOW,
      to: (window + 1) * WINDOW,
      last: streams.length,
      ...unsealed,
    },
    LONG,
  );
  return rows.map((r) => ({
    stream: streams[Number(r.stream_no) - 1] ?? BEFORE,
    range: Number(r.range),
    n: Number(r.n),
    x1: BigInt(r.x1 as string),
    x2: BigInt(r.x2 as string),
  }));
}

/** The highest sequence of the last of these streams that a row says it came from; 0 if there is none. */
export async function lastHeld(clickhouse: ClickHouse, streams: string[]): Promise<number> {
  const [row] = await clickhouse.read<{ seq: string }>(
    `SELECT toString(max(seq)) AS seq FROM (SELECT ${PLACE}, ${SEQ} AS seq FROM facts) WHERE stream_no = {last:UInt64}`,
    { bounds: boundsOf(streams), last: streams.length },
    LONG,
  );
  return Number(row?.seq ?? 0);
}

const HELD = `toString(id) AS key, toString(ver) AS version, toString(${SEQ}) AS seq, toString(user_id) AS user,
  toString(${H1}) AS h1, toString(${H2}) AS h2`;

function toHeld(r: Raw): HeldRow {
  return {
    id: String(r.key),
    ver: String(r.version),
    range: Number(r.range),
    seq: Number(r.seq),
    userId: r.user === ANONYMOUS ? null : String(r.user),
    h1: BigInt(r.h1 as string),
    h2: BigInt(r.h2 as string),
  };
}

/** The rows of some ranges of one stream. Throws TooMuchAtOnce. */
export async function readRows(
  clickhouse: ClickHouse,
  streams: string[],
  stream: string,
  from: number,
  to: number,
): Promise<HeldRow[]> {
  const rows = await clickhouse.read<Raw>(
    `SELECT ${PLACE}, ${HELD} FROM facts FINAL WHERE stream_no = {no:UInt64} AND range BETWEEN {from:UInt64} AND {to:UInt64}
      LIMIT ${MOST_ROWS + 1}`,
    { bounds: boundsOf(streams), no: streams.indexOf(stream) + 1, from, to },
    { ...LONG, personal: true },
  );
  if (rows.length > MOST_ROWS) throw new TooMuchAtOnce(`more than ${MOST_ROWS} rows in the ranges ${from} to ${to}`);
  return rows.map(toHeld);
}

/** The rows of some facts, wherever they are, by key. */
export async function readRowsOf(
  clickhouse: ClickHouse,
  streams: string[],
  keys: string[],
): Promise<Map<string, HeldRow & { stream: string }>> {
  const found = new Map<string, HeldRow & { stream: string }>();
  for (let i = 0; i < keys.length; i += 2000) {
    const rows = await clickhouse.read<Raw>(
      `SELECT ${PLACE}, ${HELD} FROM facts FINAL WHERE id IN (SELECT toUInt128(arrayJoin({keys:Array(String)})))`,
      { bounds: boundsOf(streams), keys: keys.slice(i, i + 2000) },
      { ...LONG, personal: true },
    );
    for (const r of rows) {
      const row = { ...toHeld(r), stream: streams[Number(r.stream_no) - 1] ?? BEFORE };
      found.set(row.id, row);
    }
  }
  return found;
}

/** Takes rows out for good. */
export async function removeRows(clickhouse: ClickHouse, rows: { id: string; ver: string }[]): Promise<void> {
  for (let i = 0; i < rows.length; i += 1000) {
    const some = rows.slice(i, i + 1000);
    // Numbers of our own making: they cannot be anything but digits.
    const pairs = some.map(({ id, ver }) => `(toUInt128('${BigInt(id)}'), toUInt128('${BigInt(ver)}'))`).join(", ");
    await clickhouse.execute(
      `ALTER TABLE facts DELETE WHERE (id, ver) IN (${pairs})`,
      {},
      { timeoutMs: 60_000, settings: { mutations_sync: "1" } },
    );
  }
}

/** Changes whenever a row does, in whatever way: parts are never written twice. */
export async function fingerprint(clickhouse: ClickHouse): Promise<string> {
  const [row] = await clickhouse.read<{ f: string }>(
    `SELECT toString(groupBitXor(sipHash64(name, hash_of_all_files))) AS f FROM system.parts
      WHERE database = currentDatabase() AND table = 'facts' AND active`,
  );
  return row?.f ?? "";
}
