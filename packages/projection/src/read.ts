import { createInbox, type NatsConnection } from "nats";
import { JetStreamFailure } from "./errors.ts";
import type { RawMessage } from "./types.ts";

const TIMEOUT_MS = 5_000;
/** The server gives no more than 1,000 in one answer. */
const BATCH = 1_000;

/**
 * Reads the messages of a stream from one sequence to another, both included, without a consumer (direct get in batches, NATS 2.11): for looking at a
 * part of the log, by the audit for example. `inboxPrefix` as for the connection. Throws when the broker does not answer.
 */
export async function* readStream(
  nc: NatsConnection,
  stream: string,
  filter: string,
  range: { from: number; to: number },
  inboxPrefix?: string,
): AsyncGenerator<RawMessage> {
  for (let seq = Math.max(1, range.from); seq <= range.to; ) {
    const batch = await getBatch(nc, stream, { seq, next_by_subj: filter, batch: BATCH }, inboxPrefix);
    for (const message of batch) {
      if (message.seq > range.to) return;
      yield message;
    }
    const last = batch.at(-1);
    if (!last) return;
    seq = last.seq + 1;
  }
}

async function getBatch(
  nc: NatsConnection,
  stream: string,
  request: { seq: number; next_by_subj: string; batch: number },
  inboxPrefix?: string,
): Promise<RawMessage[]> {
  const inbox = createInbox(inboxPrefix);
  const answers = nc.subscribe(inbox);
  const giveUp = setTimeout(() => answers.unsubscribe(), TIMEOUT_MS);
  const found: RawMessage[] = [];
  try {
    nc.publish(`$JS.API.DIRECT.GET.${stream}`, JSON.stringify(request), { reply: inbox });
    for await (const message of answers) {
      const status = message.headers?.code ?? 0;
      if (status === 204 || status === 404) return found;
      if (status >= 400) throw new JetStreamFailure(message.headers?.description ?? "direct get", status, 0);
      found.push({
        data: message.data,
        subject: message.headers?.get("Nats-Subject") ?? "",
        headers: message.headers,
        seq: Number(message.headers?.get("Nats-Sequence")),
        time: new Date(message.headers?.get("Nats-Time-Stamp") ?? 0),
        deliveries: 0,
      });
    }
  } finally {
    clearTimeout(giveUp);
    answers.unsubscribe();
  }
  throw new JetStreamFailure(`no end of the answer within ${TIMEOUT_MS} ms`, 408, 0);
}
