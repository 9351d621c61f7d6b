import { setTimeout as sleep } from "node:timers/promises";
import type { ImportedEvent, ImportedUser } from "@quartet/contracts";
import { call, findSystem, type SystemAddress, UsageError } from "./client.ts";
import {
  authorKey,
  displayNameOf,
  openRepository,
  pathFrom,
  presentableTime,
  type Repository,
  readCommits,
} from "./git.ts";
import { Progress } from "./progress.ts";
import { uploadEvents, uploadUsers } from "./upload.ts";

/**
 * `npm run import -- git PATH`: the authors of HEAD's history become users, its commits tracked events. Rerun it at will: authors are
 * named by their email (without one by their name) and commits by their hash, so nothing counts twice and an interrupted run is finished by the next.
 */
export async function main(args: string[]): Promise<void> {
  const [kind, path] = args;
  if (kind !== "git" || !path || args.length > 2) throw new UsageError("Usage: npm run import -- git PATH");
  const repository = await openRepository(pathFrom(path));
  const system = findSystem();
  if (repository.shallow) console.log(`A shallow clone: only ${repository.commits} commits of its history are here.`);

  const people = await authorsOf(repository);
  const uploading = new Progress("authors", people.size);
  const { ids, outcome } = await uploadUsers(system, [...people.values()], uploading);
  uploading.stop();

  const progress = new Progress("commits", repository.commits);
  const { sent, tokens } = await uploadEvents(system, eventsOf(repository, ids), progress);
  progress.stop();
  console.log(
    `${people.size} authors (${outcome.created} new, ${outcome.updated} changed, ${outcome.unchanged} as before), ${sent} commits sent.`,
  );
  await tellWhenVisible(system, [outcome.token, ...tokens]);
}

/** The authors of HEAD's history by their keys, each with the latest name that others can read. */
export async function authorsOf(repository: Repository): Promise<Map<string, ImportedUser>> {
  const authors = new Map<string, ImportedUser>();
  const unnamed = new Set<string>();
  for await (const { name, email } of readCommits(repository)) {
    const key = authorKey({ name, email });
    // Newest first: the first name seen is the latest.
    const known = authors.has(key);
    if (known && !unnamed.has(key)) continue;
    const { displayName, named } = displayNameOf(name, email);
    if (named) unnamed.delete(key);
    else if (known) continue;
    else unnamed.add(key);
    authors.set(key, { key, email: email.slice(0, 1000).toWellFormed(), displayName });
  }
  return authors;
}

/** The commits of HEAD's history as events of their authors. */
export async function* eventsOf(
  repository: Repository,
  ids: ReadonlyMap<string, string>,
): AsyncGenerator<ImportedEvent> {
  const properties = { repository: displayNameOf(repository.name, "").displayName };
  for await (const commit of readCommits(repository)) {
    yield {
      id: commit.hash,
      name: "commit",
      occurredAt: presentableTime(commit.time),
      userId: ids.get(authorKey(commit))!,
      properties,
    };
  }
}

/** Waits until the derived stores have it, then says what they count. */
export async function tellWhenVisible(system: SystemAddress, tokens: (string | null)[]): Promise<void> {
  const deadline = Date.now() + 120_000;
  for (const token of tokens.filter((t) => t !== null)) {
    for (const path of [
      "/v1/search?limit=1",
      "/v1/analytics/events?name=commit&from=1970-01-01&to=2100-01-01&interval=month",
    ]) {
      while (Date.now() < deadline) {
        const fresh = await isVisible(system, path, token);
        if (fresh) break;
        await sleep(250);
      }
    }
  }
  const commits = await call(
    system,
    "GET",
    "/v1/analytics/events?name=commit&from=1970-01-01&to=2100-01-01&interval=month",
  );
  const found = await call(system, "GET", "/v1/search?limit=1");
  console.log(
    `Search knows ${(found.body as { total: number }).total} people, Analytics counts ${(commits.body as { total: number }).total} commits.`,
  );
}

async function isVisible(system: SystemAddress, path: string, token: string): Promise<boolean> {
  try {
    const response = await fetch(system.url + path, {
      headers: { Authorization: `Bearer ${system.operatorToken}`, "Consistency-Token": token, Prefer: "wait=10" },
    });
    await response.arrayBuffer();
    return response.ok && response.headers.get("quartet-freshness") !== "stale";
  } catch {
    return false;
  }
}
