/**
 * Decoder of the logical replication messages of `pgoutput`, protocol version 1 (PostgreSQL manual, "Logical Replication Message
 * Formats"). Only what an insert-only publication and logical messages can produce; everything else is passed over.
 */
export interface PgOutputHandler {
  /** `xid`: the lower 32 bits of the transaction's number. */
  begin(commitMicros: bigint, xid: number): void;
  /** A row of the published table: values by column name, text format. */
  insert(row: Row): void;
  /** A message written by `pg_logical_emit_message`. */
  message(prefix: string, content: Buffer): void;
  /** `end` is the position after the commit record: what may be confirmed once the transaction is done with. */
  commit(end: bigint): void;
}

export type Row = (column: string) => string | null;

/** Microseconds between 1970-01-01 and 2000-01-01, where PostgreSQL's clock begins. */
export const POSTGRES_EPOCH_MICROS = 946_684_800_000_000n;

const BEGIN = 0x42;
const COMMIT = 0x43;
const INSERT = 0x49;
const MESSAGE = 0x4d;
const RELATION = 0x52;
const TEXT = 0x74;

export class PgOutputDecoder {
  readonly #handler: PgOutputHandler;
  /** Column positions by name, by relation. */
  readonly #relations = new Map<number, Map<string, number>>();

  constructor(handler: PgOutputHandler) {
    this.#handler = handler;
  }

  /** Decodes the message that starts at `offset`. The buffer is not kept. */
  decode(buffer: Buffer, offset: number): void {
    switch (buffer[offset]) {
      case BEGIN:
        // Final LSN (8), commit time (8), transaction (4).
        this.#handler.begin(buffer.readBigInt64BE(offset + 9), buffer.readUInt32BE(offset + 17));
        break;
      case INSERT:
        this.#insert(buffer, offset);
        break;
      case COMMIT:
        // Flags (1), LSN of the commit (8), end of the transaction (8), commit time (8).
        this.#handler.commit(buffer.readBigUInt64BE(offset + 10));
        break;
      case MESSAGE:
        this.#message(buffer, offset);
        break;
      case RELATION:
        this.#relation(buffer, offset);
        break;
    }
  }

  #relation(buffer: Buffer, offset: number): void {
    const id = buffer.readUInt32BE(offset + 1);
    let at = buffer.indexOf(0, offset + 5) + 1; // namespace
    at = buffer.indexOf(0, at) + 2; // relation name, replica identity
    const columns = new Map<string, number>();
    const count = buffer.readUInt16BE(at);
    at += 2;
    for (let i = 0; i < count; i++) {
      const end = buffer.indexOf(0, at + 1); // flags (1), name, type (4), modifier (4)
      columns.set(buffer.toString("utf8", at + 1, end), i);
      at = end + 9;
    }
    this.#relations.set(id, columns);
  }

  #insert(buffer: Buffer, offset: number): void {
    const columns = this.#relations.get(buffer.readUInt32BE(offset + 1));
    if (!columns) return;
    // "N" (1), number of columns (2), then per column its kind and, for text, length and bytes.
    const count = buffer.readUInt16BE(offset + 6);
    const values: (string | null)[] = new Array(count);
    let at = offset + 8;
    for (let i = 0; i < count; i++) {
      if (buffer[at] === TEXT) {
        const length = buffer.readUInt32BE(at + 1);
        values[i] = buffer.toString("utf8", at + 5, at + 5 + length);
        at += 5 + length;
      } else {
        values[i] = null;
        at += 1;
      }
    }
    this.#handler.insert((column) => values[columns.get(column) ?? -1] ?? null);
  }

  #message(buffer: Buffer, offset: number): void {
    // Flags (1), LSN (8), prefix, length (4), content.
    const end = buffer.indexOf(0, offset + 10);
    const length = buffer.readUInt32BE(end + 1);
    this.#handler.message(buffer.toString("utf8", offset + 10, end), buffer.subarray(end + 5, end + 5 + length));
  }
}
