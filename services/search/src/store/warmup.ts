import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "@elastic/elasticsearch";
import { emit, type UserEvent, uuidv7 } from "@quartet/contracts";
import { ensureIndexes, indexNames, removeIndexes } from "./indexes.ts";
import { firstPage, suggest } from "./search.ts";
import { createStore } from "./store.ts";
import { writeUsers } from "./users.ts";

const WORDS = ["ada", "grace", "josé", "müller", "jean-luc", "engineer", "博士", "writes", "of", "compilers"];
const USERS = 200;
const BATCH = 8;
const TRIES = 10;
const pick = () => WORDS[Math.floor(Math.random() * WORDS.length)]!;

function someUser(id: string, revision: number): UserEvent {
  const time = new Date();
  const at = time.toISOString();
  const bio = `${pick()} ${pick()} ${Math.random().toString(36).slice(2)}`;
  const profile = {
    handle: `u_${id.slice(-12)}`,
    displayName: `${pick()} ${pick()}`,
    bio,
    country: "DE",
    tags: ["math"],
  };
  const rest = { revision, createdAt: at, updatedAt: at, credentialEpoch: 0, keptSessionId: null };
  return emit.userState({ id, ...profile, ...rest }, revision, { time }).event as UserEvent;
}

/**
 * Writes, refreshes and searches an index of its own for a while, so that the first people do not meet an engine whose code is still being
 * interpreted: a Java engine that has just started takes several times as long for the same request. The index is removed again.
 * `ms`: for how long, in milliseconds. What fails (a shard that is only just being opened) is tried again a few times, then left: this only makes things faster.
 */
export async function warmUp(client: Client, prefix: string, ms: number, signal: AbortSignal): Promise<void> {
  const end = performance.now() + ms;
  const names = indexNames(`${prefix === "" ? "" : `${prefix}-`}warm-up`);
  const store = createStore(client, client, names);
  const ids = Array.from({ length: USERS }, () => uuidv7());
  const round = async (revision: number): Promise<void> => {
    const batch = Array.from({ length: BATCH }, (_, i) => ids[(revision * BATCH + i) % USERS]!);
    const users = batch.map((id) => someUser(id, revision));
    await writeUsers(client, names, users, { refresh: true });
    const wanted = { tag: [], limit: 20, country: undefined };
    await Promise.all([
      firstPage(store, { ...wanted, q: `${pick()} ${pick()}` }),
      firstPage(store, { ...wanted, q: Math.random().toString(36).slice(2, 8), limit: 1 }),
      suggest(store, pick().slice(0, 3), 8),
    ]);
  };
  try {
    await ensureIndexes(client, { names, replicas: 0, refreshInterval: "250ms", unread: true });
    for (let revision = 1, failed = 0; performance.now() < end && !signal.aborted; revision++) {
      try {
        await round(revision);
        failed = 0;
      } catch (error) {
        if (++failed > TRIES) throw error;
        await sleep(100 * failed);
      }
    }
  } catch {
    // As long as Elasticsearch is away there is nothing to warm.
  } finally {
    await removeIndexes(client, names).catch(() => {});
  }
}
