import { setTimeout as sleep } from "node:timers/promises";
import { STREAMS, subjects } from "@quartet/contracts";
import type { Broker } from "@quartet/projection";
import { type Msg, RequestStrategy } from "nats";

const PAGE = 500;
/** What one page may hold. */
const PAGE_BYTES = 4 * 1024 * 1024;
const PAGE_MS = 10_000;
/** A replica of the stream that answers in the leader's place may be this far behind. */
const CATCH_UP_MS = 5_000;
const DIRECT = `$JS.API.DIRECT.GET.${STREAMS.USERS.name}`;

/** What is asked for begins so much earlier: the clocks of the stores are not one. */
export const OVERLAP_MS = 60_000;

/**
 * Reads from USERS who was erased at `since` or later (null: ever), and gives the ids to `take`, page by page. False: the log cannot tell, because the stream
 * is younger than that or has lost its end. Throws if it cannot be asked.
 */
export async function readErasedSince(
  broker: Broker,
  since: Date | null,
  take: (userIds: string[]) => Promise<void>,
): Promise<boolean> {
  const nc = broker.require();
  const jsm = await nc.jetstreamManager({ checkAPI: false, timeout: 3000 });
  const { created, state } = await jsm.streams.info(STREAMS.USERS.name);
  const [from, to] = [Date.parse(created), Date.parse(state.last_ts as unknown as string)];
  const covers = since !== null && from <= since.getTime() && to >= since.getTime();
  const giveUpAt = performance.now() + CATCH_UP_MS;
  for (let seq = 1, first = true; seq <= state.last_seq; ) {
    // The messages of all subjects: the heartbeat is the newest, so that it is seen how far the replica that answers has come.
    const start = first && since ? { start_time: new Date(since.getTime() - OVERLAP_MS).toISOString() } : { seq };
    const { messages, end } = await page({ ...start, batch: PAGE, max_bytes: PAGE_BYTES, next_by_subj: ">" }, nc);
    const erased = messages.filter(isTombstone);
    if (erased.length > 0) await take(erased.map((m) => subjectOf(m).slice(subjects.user("").length)));
    const last = messages.at(-1);
    if (last) [seq, first] = [Number(last.headers?.get("Nats-Sequence")) + 1, false];
    else if (end === "nothing" && performance.now() > giveUpAt) throw new Error("USERS does not show its end");
    else if (end === "nothing") await sleep(100);
  }
  return covers;
}

const subjectOf = (m: Msg) => m.headers?.get("Nats-Subject") ?? "";

function isTombstone(m: Msg): boolean {
  if (!subjectOf(m).startsWith(subjects.user(""))) return false;
  return m.json<{ type?: string }>().type === "quartet.user.tombstone.v1";
}

/** One page, as JetStream gives it out without a consumer (ADR-31, "batched requests"). */
async function page(
  request: object,
  nc: ReturnType<Broker["require"]>,
): Promise<{ messages: Msg[]; end: "more" | "nothing" }> {
  const messages: Msg[] = [];
  const answers = await nc.requestMany(DIRECT, JSON.stringify(request), {
    strategy: RequestStrategy.SentinelMsg,
    maxWait: PAGE_MS,
  });
  for await (const m of answers) {
    const code = m.headers?.code ?? 0;
    if (code === 204) return { messages, end: "more" };
    if (code === 404) return { messages, end: "nothing" };
    if (code >= 300) throw new Error(`USERS answered ${code} ${m.headers?.description}`);
    messages.push(m);
  }
  throw new Error("USERS did not answer to the end");
}
