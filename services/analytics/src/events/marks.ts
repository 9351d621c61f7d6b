import { type JetStreamManager, NatsError } from "nats";

const KEPT = 200;
/** So many older ones are asked for when the newer are no longer there. */
const ASKED = 50;

/** What a stream ended with at earlier looks. */
export interface Marks {
  /**
   * Up to where the stream is what it was, if it has lost its end since the last look; undefined if not. Also seen when the sequences have all been given
   * out again: another message is there, of another time. What was purged or has aged away proves nothing.
   */
  broken(end: number): Promise<number | undefined>;
  note(seq: number, time: string): void;
  forget(): void;
}

/** @param timeAt when the message at a sequence was stored; undefined if none is there */
export function createMarks(timeAt: (seq: number) => Promise<number | undefined>): Marks {
  let marks: { seq: number; at: number }[] = [];
  return {
    async broken(end) {
      let lost = false;
      let asked = 0;
      for (const { seq, at } of marks.toReversed()) {
        if (seq > end) {
          lost = true;
          continue;
        }
        const found = ++asked > ASKED ? undefined : await timeAt(seq);
        if (found === undefined) continue;
        if (found !== at) lost = true;
        else {
          if (lost) marks = marks.filter((mark) => mark.seq <= seq);
          return lost ? seq : undefined;
        }
      }
      if (lost) marks = [];
      return lost ? 0 : undefined;
    },
    note(seq, time) {
      const at = Date.parse(time);
      if (seq === 0 || Number.isNaN(at) || (marks.at(-1)?.seq ?? 0) >= seq) return;
      marks = [...marks, { seq, at }].slice(-KEPT);
    },
    forget() {
      marks = [];
    },
  };
}

/** When a message was stored, in ms since 1970; undefined if it is not there (any more). */
export async function messageTime(jsm: JetStreamManager, stream: string, seq: number): Promise<number | undefined> {
  try {
    return (await jsm.streams.getMessage(stream, { seq })).time.getTime();
  } catch (error) {
    if (error instanceof NatsError && error.api_error?.code === 404) return undefined;
    throw error;
  }
}
