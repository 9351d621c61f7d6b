import { setTimeout as sleep } from "node:timers/promises";
import { Client, logIn, signUp, unique } from "../test/lib/client.ts";
import { percentile } from "./numbers.ts";

/** How long it takes until an acknowledged write can be seen in one place, ms. */
export interface LatencyResult {
  target: string;
  writesPerSecond: number;
  /** Writes acknowledged per second; less than asked for if the system did not keep up. */
  achieved: number;
  /** Writes that were refused or not answered. */
  failed: number;
  samples: number;
  p50: number;
  p99: number;
  /** Share of the samples seen within one second, 0 to 1. */
  within1s: number;
}

/** What is followed to its end; later is counted as this. */
const GIVE_UP_MS = 10_000;
/** How often a follower looks again: the resolution of "searchable". Oftener, the searches of the followers were a quarter of all the load. */
export const POLL_MS = 100;
/** Followed writes a second: enough for a p99 over half a minute, few enough not to be the load. */
const FOLLOWED_PER_SECOND = 4;
const IMPORT_BATCH = 500;

/** Who is written to, and the session of somebody who watches. */
export interface Population {
  client: Client;
  ids: string[];
  session: string;
}

/**
 * People to write to: imported, since argon2id bounds sign-ups, and many, so that no followed word is replaced by the next write of the same
 * person before a refresh shows it.
 */
export async function populate(url: string, operatorToken: string, people: number): Promise<Population> {
  const client = new Client(url, operatorToken);
  const watcher = await signUp(client);
  const ids: string[] = [];
  let last: string | null = null;
  for (let from = 0; from < people; from += IMPORT_BATCH) {
    const users = Array.from({ length: Math.min(IMPORT_BATCH, people - from) }, () => {
      const key = unique("p");
      return { key, displayName: `Person ${key}`, bio: "nothing yet" };
    });
    const reply = await client.post("/v1/admin/import", { users }, { token: operatorToken });
    if (reply.status !== 200) throw new Error(`the import answered ${reply.status}: ${JSON.stringify(reply.body)}`);
    for (const user of reply.body.users as { id: string }[]) ids.push(user.id);
    last = reply.token;
  }
  const { token: session } = await logIn(client, watcher);
  // Begin when everybody has arrived everywhere.
  const everywhere = [
    "/v1/search?limit=1",
    "/v1/sessions/current",
    "/v1/analytics/sessions?from=2020-01-01&to=2020-01-02",
  ];
  for (const path of everywhere) {
    for (let attempt = 0; ; attempt++) {
      const reply = await client.get(path, { token: session, after: last });
      if (reply.status === 200 && reply.headers.get("quartet-freshness") === null) break;
      if (attempt > 5) throw new Error(`${path} does not show the imported people: ${reply.status}`);
    }
  }
  return { client, ids, session };
}

/**
 * Commit -> visible, at a steady rate of PATCHes (open loop: a write is sent when it is due, whether or not the earlier ones were answered). Counted
 * from the moment the write was acknowledged to the client until
 * - searchable: an ordinary search finds the new word (polled; nothing forces a refresh),
 * - counted: Analytics has the write's fact (a read that waits with the write's token),
 * - session copy: `GET /v1/sessions/current` shows the write (likewise).
 * Some of the writes are followed to the end, never all, so that the followers are not the load.
 */
export async function latency(
  { client, ids, session }: Population,
  writesPerSecond: number,
  seconds: number,
): Promise<LatencyResult[]> {
  const seen = { searchable: [] as number[], counted: [] as number[], "session copy": [] as number[] };
  const followers: Promise<void>[] = [];
  const every = Math.max(1, Math.round(writesPerSecond / FOLLOWED_PER_SECOND));
  const follow = async (into: number[], probe: () => Promise<boolean>): Promise<void> => {
    const started = performance.now();
    while (performance.now() - started < GIVE_UP_MS) {
      if (await probe().catch(() => false)) {
        into.push(performance.now() - started);
        return;
      }
      await sleep(POLL_MS);
    }
    into.push(GIVE_UP_MS);
  };
  let acknowledged = 0;
  let failed = 0;
  let lastAcknowledged = 0;
  const write = async (i: number): Promise<void> => {
    const word = unique("w").replaceAll("_", "x");
    const reply = await client
      .patch(`/v1/users/${ids[i % ids.length]}`, { bio: word }, { token: client.operatorToken })
      .catch(() => undefined);
    if (reply?.status !== 200) {
      failed++;
      return;
    }
    acknowledged++;
    lastAcknowledged = performance.now();
    if (i % every !== 0) return;
    const shows = async (path: string, token?: string) => {
      const answer = await client.get(path, { token, after: reply.token });
      return answer.status === 200 && answer.headers.get("quartet-freshness") === null;
    };
    followers.push(
      follow(seen.searchable, async () => (await client.get(`/v1/search?q=${word}&limit=1`)).body.total > 0),
      follow(seen.counted, () => shows("/v1/analytics/sessions?from=2020-01-01&to=2020-01-02")),
      follow(seen["session copy"], () => shows("/v1/sessions/current", session)),
    );
  };
  const begin = performance.now();
  const writes: Promise<void>[] = [];
  for (let i = 0; i < writesPerSecond * seconds; i++) {
    const wait = begin + (i * 1000) / writesPerSecond - performance.now();
    if (wait > 1) await sleep(wait);
    writes.push(write(i));
  }
  await Promise.all(writes);
  const achieved = acknowledged / (Math.max(1, lastAcknowledged - begin) / 1000);
  await Promise.all(followers);
  return Object.entries(seen).map(([target, values]) => ({
    target,
    writesPerSecond,
    achieved,
    failed,
    samples: values.length,
    p50: percentile(values, 0.5),
    p99: percentile(values, 0.99),
    within1s: values.filter((v) => v <= 1000).length / Math.max(1, values.length),
  }));
}
