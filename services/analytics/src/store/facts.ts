import { createHash } from "node:crypto";
import type { PropertyValue, SessionEndReason } from "@quartet/contracts";
import type { ClickHouse, Questions } from "./client.ts";
import { toClickHouse } from "./time.ts";

/** What happened, as the store keeps it. */
export interface Fact {
  /** The fact's id (`u:...`, `s:...`, `t:...`); the store keeps its hash. */
  id: string;
  kind: "user" | "session" | "track";
  name: string;
  /** Absent: anonymous, or a person who was erased. */
  userId: string | null;
  /** ms since 1970 UTC. */
  occurredAt: number;
  reason?: SessionEndReason;
  durationSeconds?: number;
  properties?: Record<string, PropertyValue>;
  /** When JetStream accepted the message, ns since 1970, and its sequence: of several messages with one id the first counts. */
  acceptedAt: bigint;
  sequence: number;
}

/** The user id of nobody. */
export const ANONYMOUS = "00000000-0000-0000-0000-000000000000";

const columns = [
  "id",
  "kind",
  "name",
  "user_id",
  "occurred_at",
  "reason",
  "duration",
  "properties",
  "ver",
  "received_at",
] as const;

/** The store's key of a fact id, as a decimal UInt128. */
export function factKey(id: string): string {
  return BigInt(`0x${createHash("sha256").update(id).digest("hex").slice(0, 32)}`).toString();
}

const MAX_UINT64 = (1n << 64n) - 1n;

/** A version that is the higher the earlier the message was accepted; the sequence decides between equal times. */
export function precedence(acceptedAt: bigint, sequence: number): string {
  return (((MAX_UINT64 - acceptedAt) << 64n) | (MAX_UINT64 - BigInt(sequence))).toString();
}

/** The properties as they are stored: every value as a JSON text. */
export function storedProperties(fact: Fact): Record<string, string> {
  const properties = fact.userId === null && fact.kind !== "track" ? {} : (fact.properties ?? {});
  return Object.fromEntries(Object.entries(properties).map(([key, value]) => [key, JSON.stringify(value)]));
}

/** The same fact of a person who is erased: it counts, and names nobody. */
export const anonymous = (fact: Fact): Fact => ({ ...fact, userId: null, properties: {} });

function toRow(fact: Fact, receivedAt: string): unknown[] {
  return [
    factKey(fact.id),
    fact.kind,
    fact.name,
    fact.userId ?? ANONYMOUS,
    toClickHouse(fact.occurredAt),
    fact.reason ?? "",
    fact.durationSeconds ?? 0,
    storedProperties(fact),
    precedence(fact.acceptedAt, fact.sequence),
    receivedAt,
  ];
}

/** Inserts facts, durably; one that is already there stays as it is. `table`: the one that is being rebuilt. Throws StoreUnavailable. */
export async function insertFacts(clickhouse: ClickHouse, facts: Fact[], table = "facts"): Promise<void> {
  if (facts.length === 0) return;
  const now = toClickHouse(Date.now());
  await clickhouse.insert(
    table,
    columns,
    facts.map((fact) => toRow(fact, now)),
  );
}

/** Which of these fact ids are counted. */
export async function countedAmong(clickhouse: ClickHouse, ids: string[]): Promise<Set<string>> {
  const keys = new Map(ids.map((id) => [factKey(id), id]));
  if (keys.size === 0) return new Set();
  const rows = await clickhouse.query<{ key: string }>(
    // The client quotes the elements of an array, which no number type reads.
    "SELECT DISTINCT toString(id) AS key FROM facts WHERE id IN (SELECT toUInt128(arrayJoin({keys:Array(String)})))",
    { keys: [...keys.keys()] },
    { personal: true, settings: { max_threads: 1 } },
  );
  return new Set(rows.map(({ key }) => keys.get(key) as string));
}

/** How many distinct facts there are. */
export async function countFacts(questions: Questions): Promise<number> {
  const [row] = await questions.ask<{ n: number }>("SELECT count() AS n FROM facts FINAL", {});
  return row?.n ?? 0;
}
