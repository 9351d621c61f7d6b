import { type MsgHdrs, headers as makeHeaders, type NatsConnection } from "nats";
import { NoSuchLetter, PayloadOmitted, RetainedState } from "./errors.ts";
import { deleteMessage, publish, readMessage, type StoredMessage, streamInfo } from "./jsapi.ts";
import { DEAD } from "./parking.ts";

/** A message no projector could apply. */
export interface DeadLetter {
  /** Its number on the dead-letter stream. */
  seq: number;
  /** Its subject there. */
  subject: string;
  /** When it was parked (RFC 3339). */
  parkedAt: string;
  reason: string;
  consumer: string;
  /** Where it came from. */
  original: { stream: string; subject: string; seq: number; time: string };
  data: Uint8Array;
  /** All headers, those of the original included. */
  headers: Record<string, string[]>;
}

export interface DeadLettersOptions {
  /** Default `DEAD`. */
  stream?: string;
  /** Default `dead`: letters are read from `<prefix>.>`. */
  subjectPrefix?: string;
}

export interface DeadLetters {
  /** Letters in order, after sequence `after` (default 0), at most `limit` (default 100, at most 1,000), of one consumer if given. */
  list(query?: { after?: number; limit?: number; consumer?: string }): Promise<DeadLetter[]>;
  /** Undefined if there is none. */
  get(seq: number): Promise<DeadLetter | undefined>;
  /**
   * Gives it another chance, then removes it. A fact is published again, byte for byte, on its original subject with a new message id: the projections
   * count it once. A letter from a compacted stream is a retained state, which must never be published again (a newer one may exist: order is truth);
   * `republish` brings its *current* state instead, above the version of the old one. Throws NoSuchLetter, PayloadOmitted,
   * RetainedState (no hook given).
   */
  retry(seq: number, options?: { republish?(letter: DeadLetter): Promise<void> }): Promise<DeadLetter>;
  /** Removes it for good. Throws NoSuchLetter. */
  drop(seq: number): Promise<void>;
}

function parseHeaders(base64: string | undefined): Record<string, string[]> {
  const all: Record<string, string[]> = {};
  if (!base64) return all;
  for (const line of Buffer.from(base64, "base64").toString("utf8").split("\r\n").slice(1)) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const name = line.slice(0, colon);
    all[name] ??= [];
    all[name].push(line.slice(colon + 1).trim());
  }
  return all;
}

function toLetter(message: StoredMessage): DeadLetter {
  const headers = parseHeaders(message.hdrs);
  const one = (name: string) => headers[name]?.[0] ?? "";
  return {
    seq: message.seq,
    subject: message.subject,
    parkedAt: message.time,
    reason: one(DEAD.reason),
    consumer: one(DEAD.consumer) || (message.subject.split(".")[1] ?? ""),
    original: {
      stream: one(DEAD.stream),
      subject: one(DEAD.subject),
      seq: Number(one(DEAD.sequence) || 0),
      time: one(DEAD.time),
    },
    data: new Uint8Array(Buffer.from(message.data ?? "", "base64")),
    headers,
  };
}

function republished(letter: DeadLetter): MsgHdrs {
  const headers = makeHeaders();
  for (const [name, values] of Object.entries(letter.headers)) {
    if (/^(nats-|quartet-dead-)/i.test(name)) continue;
    for (const value of values) headers.append(name, value);
  }
  // New, so that the duplicate window of the first publication does not swallow it, and always the same, so that an impatient second retry is no second copy.
  headers.set("Nats-Msg-Id", `retry:${letter.parkedAt}:${letter.seq}`);
  return headers;
}

/** Reads and works off the dead-letter stream. Needs STREAM.INFO of the original streams, and STREAM.MSG.GET and MSG.DELETE on the dead-letter stream. */
export function deadLetters(nc: NatsConnection, options: DeadLettersOptions = {}): DeadLetters {
  const stream = options.stream ?? "DEAD";
  const prefix = options.subjectPrefix ?? "dead";

  async function get(seq: number): Promise<DeadLetter | undefined> {
    if (!Number.isSafeInteger(seq) || seq < 1) return undefined;
    const message = await readMessage(nc, stream, { seq });
    return message && toLetter(message);
  }
  async function must(seq: number): Promise<DeadLetter> {
    const letter = await get(seq);
    if (!letter) throw new NoSuchLetter(`no dead letter ${seq}`);
    return letter;
  }
  return {
    get,
    async list({ after = 0, limit = 100, consumer } = {}) {
      const filter = consumer ? `${prefix}.${consumer}.>` : `${prefix}.>`;
      const letters: DeadLetter[] = [];
      let seq = after + 1;
      while (letters.length < Math.min(limit, 1_000)) {
        const message = await readMessage(nc, stream, { seq, next_by_subj: filter });
        if (!message) break;
        letters.push(toLetter(message));
        seq = message.seq + 1;
      }
      return letters;
    },
    async retry(seq, { republish } = {}) {
      const letter = await must(seq);
      const origin = await streamInfo(nc, letter.original.stream);
      if ((origin.config.max_msgs_per_subject ?? -1) > 0) {
        if (!republish) throw new RetainedState(`letter ${seq} is a retained state of ${letter.original.stream}`);
        await republish(letter);
      } else {
        if (letter.headers[DEAD.omitted]) {
          throw new PayloadOmitted(`the payload of dead letter ${seq} was too large to be kept`);
        }
        await publish(nc, letter.original.subject, letter.data, republished(letter));
      }
      await deleteMessage(nc, stream, seq);
      return letter;
    },
    async drop(seq) {
      // Looked for first: the server has several answers to the deletion of what is not there, and one of them is an inner error.
      await must(seq);
      if (!(await deleteMessage(nc, stream, seq))) throw new NoSuchLetter(`no dead letter ${seq}`);
    },
  };
}
