import type { Socket } from "node:net";
import pg from "pg";
import { StoreError } from "../errors.ts";
import { POSTGRES_EPOCH_MICROS } from "./pgoutput.ts";

const XLOG_DATA = 0x77;
const KEEPALIVE = 0x6b;
/** Kind (1), start (8), end (8) and clock (8) precede the message in XLogData. */
const XLOG_HEADER = 25;

/** The part of pg's connection that speaks the copy-both protocol; pg has no public name for it. */
interface CopyBothConnection {
  stream: Socket;
  on(event: "copyData", listener: (message: { chunk: Buffer }) => void): void;
  once(event: "replicationStart", listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
}

export interface ReplicationHandler {
  /** One pgoutput message. The buffer is only valid during the call. */
  data(buffer: Buffer, offset: number): void;
  /** The server has sent everything up to `walEnd`. */
  keepalive(walEnd: bigint): void;
  failed(error: Error): void;
}

export interface ReplicationOptions {
  connectionString: string;
  slot: string;
  publication: string;
  /** The server ends a walsender that heard nothing for that long, which frees the slot of a frozen replica. */
  walSenderTimeoutMs: number;
}

/**
 * A walsender connection. It starts held: nothing is handed out before `open()`, while the server is kept content by status updates.
 * Confirming is left to the caller, who sets `confirmed`: it is sent every second, at `flush()`, and whenever the server asks.
 */
export class ReplicationConnection {
  confirmed = 0n;
  readonly #client: pg.Client;
  readonly #connection: CopyBothConnection;
  readonly #options: ReplicationOptions;
  readonly #handler: ReplicationHandler;
  #held: Buffer[] | undefined = [];
  #paused = false;
  #ended = false;
  #sent = -1n;
  #heardAt = performance.now();
  #timer: NodeJS.Timeout | undefined;

  private constructor(options: ReplicationOptions, handler: ReplicationHandler) {
    this.#options = options;
    this.#handler = handler;
    // "replication" and "options" are startup parameters; pg passes both on.
    const config = {
      connectionString: options.connectionString,
      replication: "database",
      options: `-c wal_sender_timeout=${options.walSenderTimeoutMs}ms`,
      keepAlive: true,
      connectionTimeoutMillis: 5_000,
    };
    this.#client = new pg.Client(config as pg.ClientConfig);
    this.#connection = (this.#client as unknown as { connection: CopyBothConnection }).connection;
    this.#client.on("error", (error) => this.#fail(error));
    this.#client.on("end", () => this.#fail(new Error("the connection ended")));
  }

  /**
   * Connects and takes the slot.
   * @throws the server's error, `code` 55006 if another connection holds the slot
   */
  static async start(options: ReplicationOptions, handler: ReplicationHandler): Promise<ReplicationConnection> {
    const replication = new ReplicationConnection(options, handler);
    try {
      await replication.#start();
      return replication;
    } catch (error) {
      replication.close();
      throw error;
    }
  }

  /** The identifier of the database cluster: a transaction number means nothing in another one. */
  systemId = "";

  async #start(): Promise<void> {
    await this.#client.connect();
    const system = await this.#client.query("IDENTIFY_SYSTEM");
    this.systemId = String(system.rows[0].systemid);
    const { slot, publication } = this.#options;
    const names = `"${publication.replaceAll('"', '""')}"`.replaceAll("'", "''");
    const started = new Promise<void>((resolve) => {
      this.#connection.once("replicationStart", () => {
        this.#connection.on("copyData", (message) => this.#receive(message.chunk));
        this.#connection.stream.pause();
        resolve();
      });
    });
    // The query lasts as long as the replication does. 0/0 means: from the confirmed position.
    const streaming = this.#client.query(
      `START_REPLICATION SLOT "${slot}" LOGICAL 0/0 (proto_version '1', publication_names '${names}', messages 'true')`,
    );
    streaming.catch((error) => this.#fail(error));
    await Promise.race([started, streaming]);
    this.#timer = setInterval(() => this.#tick(), 1_000);
  }

  /** It hands out what the server sends. */
  get opened(): boolean {
    return this.#held === undefined;
  }

  /** Starts handing out what the server sends. */
  open(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const chunk of held) this.#dispatch(chunk);
    if (!this.#paused) this.#connection.stream.resume();
  }

  /** Stops reading from the socket; what was read already is still handed out. */
  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#connection.stream.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#heardAt = performance.now();
    if (!this.#held && !this.#ended) this.#connection.stream.resume();
  }

  /** Tells the server the confirmed position if it moved. */
  flush(): void {
    if (this.confirmed !== this.#sent) this.#report(false);
  }

  /** Ends the connection, which frees the slot. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#timer);
    this.#client.end().catch(() => {});
    // A server that is frozen or a cut cable must not hold anything up.
    setTimeout(() => this.#connection.stream.destroy(), 500).unref();
  }

  #receive(chunk: Buffer): void {
    this.#heardAt = performance.now();
    // pg reuses its buffer, hence the copy.
    if (this.#held) this.#held.push(Buffer.from(chunk));
    else this.#dispatch(chunk);
  }

  #dispatch(chunk: Buffer): void {
    if (this.#ended) return;
    if (chunk[0] === XLOG_DATA) this.#handler.data(chunk, XLOG_HEADER);
    else if (chunk[0] === KEEPALIVE) {
      this.#handler.keepalive(chunk.readBigUInt64BE(1));
      // Reply requested: at once, or the server takes the relay for dead.
      if (chunk[17] === 1) this.#report(false);
    }
  }

  #tick(): void {
    const reading = !this.#held && !this.#paused;
    if (reading && performance.now() - this.#heardAt > Math.max(10_000, this.#options.walSenderTimeoutMs)) {
      this.#fail(new Error("PostgreSQL has been silent for too long"));
      return;
    }
    // Asking for a reply makes the server say how far it is, also when nothing is being written.
    this.#report(reading);
  }

  /** Standby status update: written, flushed and applied position, clock, reply wanted. */
  #report(replyWanted: boolean): void {
    if (this.#ended) return;
    const update = Buffer.alloc(34);
    update[0] = 0x72;
    update.writeBigUInt64BE(this.confirmed, 1);
    update.writeBigUInt64BE(this.confirmed, 9);
    update.writeBigUInt64BE(this.confirmed, 17);
    update.writeBigInt64BE(BigInt(Date.now()) * 1000n - POSTGRES_EPOCH_MICROS, 25);
    update[33] = replyWanted ? 1 : 0;
    this.#connection.sendCopyFromChunk(update);
    this.#sent = this.confirmed;
  }

  #fail(error: Error): void {
    if (this.#ended) return;
    this.close();
    this.#handler.failed(new StoreError(`replication: ${error.message}`, { cause: error }));
  }
}
