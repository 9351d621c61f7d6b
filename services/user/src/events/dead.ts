import { type DeadLetter, splitVersion } from "@quartet/contracts";
import { type Broker, BrokerUnavailable, deadLetters, NoSuchLetter } from "@quartet/projection";
import { unavailable } from "@quartet/service";
import type { RepairRequest } from "../store/repair.ts";

type Letter = Awaited<ReturnType<ReturnType<typeof deadLetters>["list"]>>[number];

export { NoSuchLetter };

function toBody(letter: Letter): DeadLetter {
  return {
    seq: letter.seq,
    at: new Date(letter.parkedAt).toISOString(),
    consumer: letter.consumer,
    reason: letter.reason,
    stream: letter.original.stream,
    subject: letter.original.subject,
    sequence: letter.original.seq,
    payload: new TextDecoder().decode(letter.data),
  };
}

/** The version in a retained state, as far as it can be read: the current one is emitted above it. */
function versionIn(letter: Letter): number {
  try {
    const { version } = JSON.parse(new TextDecoder().decode(letter.data)) as { version?: unknown };
    if (
      typeof version === "number" &&
      Number.isSafeInteger(version) &&
      version >= 0 &&
      splitVersion(version).epoch < 2 ** 13 - 1
    )
      return version;
  } catch {
    // Not even JSON: it never had a version.
  }
  return 0;
}

/** The dead letters of all projectors. */
export function createDeadLetterOffice(broker: Broker, repair: (request: RepairRequest) => Promise<void>) {
  const office = () => {
    try {
      return deadLetters(broker.require());
    } catch (error) {
      throw error instanceof BrokerUnavailable ? unavailable("nats", 1, error) : error;
    }
  };
  return {
    async list(after: number, limit: number): Promise<{ deadLetters: DeadLetter[]; next?: number }> {
      const letters = await office().list({ after, limit });
      const last = letters.at(-1);
      return { deadLetters: letters.map(toBody), ...(letters.length === limit && last ? { next: last.seq } : {}) };
    },
    async get(seq: number): Promise<DeadLetter | undefined> {
      const letter = await office().get(seq);
      return letter && toBody(letter);
    },
    /** A fact is published again; of a state the current one is emitted, above the version of the old. Throws NoSuchLetter. */
    async retry(seq: number): Promise<void> {
      await office().retry(seq, {
        republish: async (letter) => {
          const id = letter.original.subject.split(".").at(-1) ?? "";
          await repair({ id, above: versionIn(letter) });
        },
      });
    },
    /** Throws NoSuchLetter. */
    async drop(seq: number): Promise<void> {
      await office().drop(seq);
    },
  };
}
