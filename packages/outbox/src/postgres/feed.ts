import type { Publisher } from "../publisher.ts";
import type { OutboxEvent } from "../types.ts";
import type { Snapshot } from "./snapshot.ts";

/**
 * A stream that does not have all that the WAL has told of. It is sent rounds of rows from the table, while its events from the WAL are dropped, for
 * they are in the table too. It joins the WAL again, with nothing lost and nothing twice, after a round whose snapshot sees every transaction that was
 * dropped before the round began: what came by the WAL since then was kept, and of that follows what the snapshot does not see.
 */
export class Feed {
  readonly stream: string;
  /** Rows of older transactions are acknowledged. Undefined until the stream could be compared with its checkpoints. */
  since: string | undefined;
  /** What this snapshot sees is acknowledged. */
  seen: Snapshot | undefined;
  /** It is written in the database that the stream is owed rows. */
  noted: boolean;
  /** Why the stream takes nothing, if it does not. */
  reason: string | undefined;
  readonly began = performance.now();
  /** Transactions whose events were dropped and which may not be visible yet (lower 32 bits). */
  readonly dropped = new Set<number>();
  /** Rows sent from the table. */
  count = 0;
  beatAt = Number.NEGATIVE_INFINITY;
  checkpointAt = Number.NEGATIVE_INFINITY;
  /** It gets its events by the WAL again. */
  joined = false;
  #settledAt = Number.POSITIVE_INFINITY;
  /** What came by the WAL since the round began, as long as it is not too much. */
  #kept: { event: OutboxEvent; at: number; xid: number }[] | undefined;
  #keepAtMost = 0;
  /** Dropped before the round began, and not seen by it. */
  #missed = 0;

  constructor(stream: string, since: string | undefined, noted: boolean, reason?: string) {
    this.stream = stream;
    this.since = since;
    this.noted = noted;
    this.reason = reason;
  }

  /** An event by the WAL. */
  take(event: OutboxEvent, at: number, xid: number): void {
    if (!this.#kept) this.dropped.add(xid);
    else if (this.#kept.push({ event, at, xid }) > this.#keepAtMost) this.#dropKept();
  }

  begin(keepAtMost: number): void {
    if (this.#kept) this.#dropKept();
    this.#kept = [];
    this.#keepAtMost = keepAtMost;
  }

  /** The round's snapshot is known. */
  taken(snapshot: Snapshot): void {
    this.#missed = 0;
    for (const xid of this.dropped) if (!snapshot.sees(xid)) this.#missed++;
  }

  /** All of the round is acknowledged. */
  sent(snapshot: Snapshot, count: number): void {
    this.since = snapshot.xmin;
    this.seen = snapshot;
    this.count += count;
  }

  /** The stream may join after this round. */
  get complete(): boolean {
    return this.#kept !== undefined && this.#missed === 0;
  }

  /** Joins the WAL after a round, if nothing can be missing. */
  join(publisher: Publisher): boolean {
    if (!this.complete) return false;
    for (const { event, at, xid } of this.#kept!) {
      if (this.seen!.sees(xid)) continue;
      publisher.publish(event, at, xid);
    }
    this.#kept = undefined;
    this.dropped.clear();
    this.joined = true;
    this.#settledAt = publisher.next;
    return true;
  }

  /** The stream refused again after it had joined. */
  part(): void {
    this.joined = false;
    this.#settledAt = Number.POSITIVE_INFINITY;
  }

  /** All that was owed is acknowledged, `acked` being the publisher's. */
  settledBy(acked: number): boolean {
    return this.joined && acked >= this.#settledAt;
  }

  #dropKept(): void {
    for (const { xid } of this.#kept ?? []) this.dropped.add(xid);
    this.#kept = undefined;
  }
}
