import { basename, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ImportedEvent, ImportedUser } from "@quartet/contracts";
import { call, findSystem, type SystemAddress, UsageError } from "./client.ts";
import { authorKey, countCommits, presentableName, presentableTime, readCommits } from "./git.ts";
import { Progress } from "./progress.ts";
import { uploadEvents, uploadUsers } from "./upload.ts";

/**
 * `npm run import -- git PATH`: the authors of HEAD's history become users, its commits tracked events. Rerun it at will: authors are
 * named by their email and commits by their hash, so nothing counts twice and an interrupted run is finished by the next.
 */
export async function main(args: string[]): Promise<void> {
  const [kind, path] = args;
  if (kind !== "git" || !path || args.length > 2) throw new UsageError("Usage: npm run import -- git PATH");
  const system = findSystem();
  const total = await countCommits(path);

  const authors = new Map<string, ImportedUser>();
  for await (const commit of readCommits(path)) {
    // Newest first: the first name seen is the latest.
    if (authors.has(commit.email)) continue;
    authors.set(commit.email, {
      key: authorKey(commit.email),
      email: commit.email.slice(0, 1000).toWellFormed(),
      displayName: presentableName(commit.name, commit.email),
    });
  }
  const people = new Progress("authors", authors.size);
  const { ids, outcome } = await uploadUsers(system, [...authors.values()], people);
  people.stop();

  const repository = presentableName(basename(resolve(path)), "");
  async function* commits(): AsyncGenerator<ImportedEvent> {
    for await (const commit of readCommits(path as string)) {
      const userId = ids.get(authorKey(commit.email));
      // A commit made since the first pass by somebody new: the next run takes both.
      if (!userId) continue;
      yield {
        id: commit.hash,
        name: "commit",
        occurredAt: presentableTime(commit.time),
        userId,
        properties: { repository },
      };
    }
  }
  const progress = new Progress("commits", total);
  const { sent, tokens } = await uploadEvents(system, commits(), progress);
  progress.stop();
  console.log(
    `${authors.size} authors (${outcome.created} new, ${outcome.updated} changed, ${outcome.unchanged} as before), ${sent} commits sent.`,
  );
  await tellWhenVisible(system, [outcome.token, ...tokens]);
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
    const response = await fetch(system.url + path, { headers: { "Consistency-Token": token, Prefer: "wait=10" } });
    await response.arrayBuffer();
    return response.ok && response.headers.get("quartet-freshness") !== "stale";
  } catch {
    return false;
  }
}
