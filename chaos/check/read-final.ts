import type { History } from "../history.ts";
import type { Target } from "../system.ts";
import { type Actions, revisionIn } from "../workload/people.ts";
import type { Workload } from "../workload/workload.ts";
import type { Final } from "./evidence.ts";

/** Facts whose number is compared. */
export const COUNTED = ["chaos.a", "chaos.b", "chaos.visit"];

export interface ReadOptions {
  actions: Actions;
  workload: Workload;
  target: Target;
  history: History;
  pausedAt: number;
  converged: true | string;
}

const AT_ONCE = 8;
const WHO = "last-reader";

/** Reads everything back: each person and each session through the public API, all of search by browsing, the totals, and the stores themselves. */
export async function readFinal(options: ReadOptions): Promise<Final> {
  const { actions, workload, target, history } = options;
  const ids = [...new Set(history.ops.flatMap((op) => (op.did.kind === "create" ? (op.did.user ?? []) : [])))];
  const users = new Map<string, number | null>();
  await each(ids, async (id) => {
    const answer = await patiently(() => actions.read(WHO, { id, handle: "", password: "", revision: undefined }));
    if (answer.status === 200) users.set(id, answer.body.revision as number);
    if (answer.status === 404) users.set(id, null);
  });
  const sessions = new Map<string, number>();
  await each(workload.sessions, async (session) => {
    sessions.set(session.id, (await patiently(() => actions.current(WHO, session))).status);
  });
  const counts: Record<string, number> = {};
  for (const name of COUNTED)
    counts[name] = (await patiently(() => actions.count(WHO, name))).body?.total ?? Number.NaN;
  const signups = (await patiently(() => actions.signups(WHO))).body?.total ?? Number.NaN;
  const status = (await patiently(() => actions.status(WHO))).body;
  const letters = Object.values((status?.projectors ?? {}) as Record<string, { deadLetters: number | null }>);
  return {
    pausedAt: options.pausedAt,
    converged: options.converged,
    users,
    search: await browse(actions),
    sessions,
    counts,
    signups,
    deadLetters: letters.reduce((sum, p) => sum + (p.deadLetters ?? 0), 0),
    ...(target.stores ? { stores: await target.stores.read() } : {}),
  };
}

/** Everything is well by now: a request that fails is asked again before it counts. */
async function patiently<T extends { status: number }>(ask: () => Promise<T>): Promise<T> {
  let answer = await ask();
  for (let attempt = 0; attempt < 4 && (answer.status === 0 || answer.status >= 500); attempt++) answer = await ask();
  return answer;
}

async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) await work(items[next++]!);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

async function browse(actions: Actions): Promise<Map<string, number | undefined>> {
  const found = new Map<string, number | undefined>();
  for (let cursor: string | undefined; ; ) {
    const path = `/v1/search?q=&limit=100${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`;
    const answer = await patiently(() =>
      actions.client.call(WHO, "GET /v1/search", "GET", path, {}, () => ({ kind: "probe" })),
    );
    if (answer.status !== 200) throw new Error(`browsing search answered ${answer.status}`);
    for (const hit of answer.body.hits as { id: string; displayName: string }[]) {
      found.set(hit.id, revisionIn(hit.displayName));
    }
    cursor = answer.body.nextCursor;
    if (!cursor) return found;
  }
}
