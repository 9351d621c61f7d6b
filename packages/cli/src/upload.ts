import type { ImportedBody, ImportedEvent, ImportedUser } from "@quartet/contracts";
import { call, type SystemAddress } from "./client.ts";
import type { Progress } from "./progress.ts";

/** What an upload did, for the closing line. */
export interface Outcome {
  created: number;
  updated: number;
  unchanged: number;
  /** Consistency token of the last call. */
  token: string | null;
}

const USERS_A_CALL = 500;
const EVENTS_A_CALL = 1000;

/** Sends people in batches. Returns the id of every key. Idempotent: a key names the same person again. */
export async function uploadUsers(
  system: SystemAddress,
  users: ImportedUser[],
  progress: Progress,
): Promise<{ ids: Map<string, string>; outcome: Outcome }> {
  const ids = new Map<string, string>();
  const outcome: Outcome = { created: 0, updated: 0, unchanged: 0, token: null };
  for (let i = 0; i < users.length; i += USERS_A_CALL) {
    const batch = users.slice(i, i + USERS_A_CALL);
    const answer = await call(system, "POST", "/v1/admin/import", {
      body: { users: batch },
      onWait: (reason) => progress.waiting(reason),
    });
    for (const user of (answer.body as ImportedBody).users) {
      ids.set(user.key, user.id);
      outcome[user.outcome]++;
    }
    outcome.token = answer.token;
    progress.add(batch.length);
  }
  return { ids, outcome };
}

/** Sends events as they come, a few calls in flight. Their ids make every repeat count once. Returns the last token. */
export async function uploadEvents(
  system: SystemAddress,
  events: AsyncIterable<ImportedEvent> | Iterable<ImportedEvent>,
  progress: Progress,
): Promise<{ sent: number; tokens: string[] }> {
  const inFlight = new Set<Promise<void>>();
  let failure: unknown;
  let tokens: string[] = [];
  let sent = 0;
  let batch: ImportedEvent[] = [];
  const send = async () => {
    const events = batch;
    batch = [];
    const run = call(system, "POST", "/v1/admin/import", { body: { events }, onWait: (r) => progress.waiting(r) })
      .then((answer) => {
        sent += events.length;
        if (answer.token) tokens = [...tokens.slice(-3), answer.token];
        progress.add(events.length);
      })
      .catch((error: unknown) => {
        failure ??= error;
      })
      .finally(() => inFlight.delete(run));
    inFlight.add(run);
    if (inFlight.size >= 3) await Promise.race(inFlight);
    if (failure) throw failure;
  };
  for await (const event of events) {
    batch.push(event);
    if (batch.length === EVENTS_A_CALL) await send();
  }
  if (batch.length > 0) await send();
  await Promise.all(inFlight);
  if (failure) throw failure;
  return { sent, tokens };
}
