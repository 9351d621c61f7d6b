import { ERASED_PAGE, type ErasedPerson, erasedPage, personHash, registryState } from "@quartet/contracts";
import type { Broker } from "@quartet/projection";
import type { Logger, Peer } from "@quartet/service";
import type { Database } from "../store/database.ts";
import { knowsWhatItWasTold, learnErased, noteTold, tellAgain, untoldErasures } from "../store/registry.ts";
import { noteLearned, type RestoreJob, restoreToLearn } from "../store/repair.ts";
import { OVERLAP_MS, readErasedSince } from "./log-tail.ts";

export interface RegistryOptions {
  db: Database;
  broker: Broker;
  /** Keeps the registry of the erased. */
  analytics: Peer;
  logger: Logger;
}

/** How often the registry is asked whether it is still the one that was told. */
const CHECK_MS = 10_000;

async function call<T>(
  peer: Peer,
  answer: { parse(body: unknown): T },
  method: string,
  path: string,
  body?: unknown,
): Promise<T> {
  const options = { ...(body === undefined ? {} : { body }), idempotent: true, timeoutMs: 5000 };
  const { status, body: said } = await peer.request(method, path, options);
  if (status !== 200) throw new Error(`${peer.name} answered ${status}`);
  return answer.parse(said);
}

/**
 * Tells Analytics of every erasure, by hash, when it begins and when it is complete: one that is acknowledged is then remembered outside this database and the
 * log. A registry that is not the one that was told, or an older state of it, is told everything again. Returns a step to be repeated.
 */
export function createRegistryTeller({ db, analytics, logger }: RegistryOptions): () => Promise<void> {
  let checked = -CHECK_MS;
  let again = false;
  return async () => {
    if (performance.now() - checked > CHECK_MS) {
      const state = await call(analytics, registryState, "GET", "/internal/erased/state");
      if ((await knowsWhatItWasTold(db, state)) !== "whole") {
        logger.info({ registry: state.id }, "the registry of the erased is new or was restored: it is told everybody");
        await tellAgain(db, state);
        again = true;
      }
      checked = performance.now();
    }
    for (let people = await untoldErasures(db, ERASED_PAGE); ; people = await untoldErasures(db, ERASED_PAGE)) {
      if (people.length === 0) break;
      await noteTold(db, people, await call(analytics, registryState, "POST", "/internal/erased", { again, people }));
    }
    again = false;
  };
}

/**
 * What a database that was restored or promoted has to learn before it relays anything: who was erased since. The log's tail says it, where it reaches back so
 * far; else the registry must. Where the log is enough and the registry is away, the receipts are asked for later. Whoever is found is written down
 * for `reemitSome` to erase. Throws while it cannot be known. Returns whether there was anything to learn.
 */
export async function learnWhoWasErased(options: RegistryOptions): Promise<boolean> {
  const { db, broker, logger } = options;
  const job = await restoreToLearn(db);
  if (!job) return false;
  const failures: unknown[] = [];
  let fresh = 0;
  const learn = async (people: ErasedPerson[]) => {
    fresh += await learnErased(db, people);
  };
  const attempt = (work: Promise<boolean>): Promise<boolean> =>
    work.catch((error) => {
      failures.push(error);
      return false;
    });
  const inLog =
    job.urgent &&
    (await attempt(
      readErasedSince(broker, job.since, (ids) => learn(ids.map((id) => ({ hash: personHash(id), receipt: null })))),
    ));
  const inRegistry = await attempt(askRegistry(options, job, learn));
  if (!inLog && !inRegistry) {
    const reason = "the log does not say who was erased since, and the registry of the erased cannot be asked";
    throw new Error(`${reason}: ${failures.map((f) => (f as Error).message).join("; ")}`, { cause: failures[0] });
  }
  await noteLearned(db, job, { receiptsOwed: !inRegistry, again: !job.urgent && fresh > 0 });
  logger.info({ since: job.since, log: inLog, registry: inRegistry }, "it is known who was erased since the restore");
  return true;
}

async function askRegistry(
  { db, analytics, logger }: RegistryOptions,
  { since }: RestoreJob,
  learn: (people: ErasedPerson[]) => Promise<void>,
): Promise<true> {
  for (let after: string | undefined; ; ) {
    const query = new URLSearchParams({
      ...(since ? { since: new Date(since.getTime() - OVERLAP_MS).toISOString() } : {}),
      ...(after ? { after } : {}),
    });
    const { people, state } = await call(analytics, erasedPage, "GET", `/internal/erased?${query}`);
    if (after === undefined && (await knowsWhatItWasTold(db, state)) === "lost")
      logger.warn(
        { registry: state.id },
        "the registry of the erased has lost its memory too: beside the log only the list beside the dumps tells who was erased",
      );
    await learn(people);
    if (people.length < ERASED_PAGE) return true;
    after = people.at(-1)?.hash;
  }
}
