import { type EventOf, emit, type UserEvent, uuidv7 } from "@quartet/contracts";
import type { Item } from "@quartet/projection";
import { checkProjection, newestStates, type StateChange, stateChanges } from "@quartet/projection/testing";
import { expect, it } from "vitest";
import { connectElasticsearch } from "../../src/store/client.ts";
import {
  blockWrites,
  ensureIndexes,
  type IndexNames,
  indexNames,
  indexState,
  rebuildMarks,
  replayState,
  startRebuild,
  swapIndexes,
} from "../../src/store/indexes.ts";
import { firstPage, nextPage } from "../../src/store/search.ts";
import { createStore } from "../../src/store/store.ts";
import { erase, refresh, stored, type UserDocument, writeUsers } from "../../src/store/users.ts";
import { eventually } from "../process.ts";
import { change, person, type Shared, stateOf } from "../world.ts";

const eventOf = (p: Parameters<typeof stateOf>[0]) => stateOf(p).event as UserEvent;

export function projection(shared: Shared) {
  const open = async (prefix: string) => {
    const client = connectElasticsearch(shared.world.elasticsearch.urlFor("search"), 10_000);
    const names = indexNames(prefix);
    const make = () => ensureIndexes(client, { names, replicas: 0, refreshInterval: "200ms", gcDeletes: "100ms" });
    await make();
    return { client, names, make };
  };

  it("makes one index, however many replicas start at once", async () => {
    const { client, names } = await open("warm");
    await client.indices.delete({ index: "warm-users-v3" });
    const made = await Promise.all(
      Array.from({ length: 8 }, () => ensureIndexes(client, { names, replicas: 0, refreshInterval: "200ms" })),
    );
    expect(made.filter(Boolean)).toHaveLength(1);
    await client.close();
  });

  it("leaves an index with another mapping in use, and begins to fill its successor", async () => {
    const client = connectElasticsearch(shared.world.elasticsearch.urlFor("search"), 10_000);
    const names = indexNames("old");
    await client.indices.create({ index: "old-users-v2", aliases: { "old-users": {} } });
    const options = { names, replicas: 0, refreshInterval: "200ms" };
    expect(await Promise.all([ensureIndexes(client, options), ensureIndexes(client, options)])).toEqual([false, false]);
    expect(await indexState(client, names)).toEqual({ live: ["old-users-v2"], next: "old-users-v3", retired: [] });
    const { next } = await rebuildMarks(client, names);
    await swapIndexes(client, names, next?.id ?? "");
    expect(await indexState(client, names)).toEqual({
      live: ["old-users-v3"],
      next: undefined,
      retired: ["old-users-v2"],
    });
    // Written by code that did not know of it: the stream has to be replayed once more.
    expect((await replayState(client, names)).replayed).toBe(false);
    await client.close();
  });

  it("erases a person also from an index that was replaced and is still read", async () => {
    const { client, names } = await open("worn");
    const p = person({ displayName: "Gone" });
    await writeUsers(client, names, [eventOf(p)]);
    await refresh(client, names);
    const options = { names, replicas: 0, refreshInterval: "200ms" };
    expect(await startRebuild(client, options)).toBe(true);
    await blockWrites(client, names);
    await swapIndexes(client, names, (await rebuildMarks(client, names)).next?.id ?? "");
    expect((await indexState(client, names)).retired).toEqual(["worn-users-v3"]);
    expect(await erase(client, names, p.id, 2)).toBe(true);
    const everywhere = await client.search({ index: "worn-users-v*", query: { match_all: {} } });
    expect(everywhere.hits.hits.map((hit) => hit._source)).toEqual([
      { id: p.id, deleted: true, bucket: expect.any(Number) },
    ]);
    await client.close();
  });

  it("shows nobody who was erased since the last refresh, and counts as if it had been one", async () => {
    const client = connectElasticsearch(shared.world.elasticsearch.urlFor("search"), 10_000);
    const names = indexNames("stale");
    await ensureIndexes(client, { names, replicas: 0, refreshInterval: "1h" });
    const store = createStore(client, client, names);
    const some = (country: string | null, ...tags: string[]) => person({ displayName: "Crowd", country, tags });
    const people = [some("NL", "a", "b"), some("NL", "a", "b"), some("DE", "a", "b"), some(null, "b"), some("FR", "c")];
    await writeUsers(client, names, people.map(eventOf), { refresh: true });
    const gone = [people[0]!, people[4]!].map((p) => eventOf(change(p, { erased: true })));
    await writeUsers(client, names, gone);
    const wanted = { q: "crowd", country: undefined, tag: [] };
    const { body } = await firstPage(store, { ...wanted, limit: 10 });
    expect(body.hits.map((hit) => hit.id).sort()).toEqual([1, 2, 3].map((i) => people[i]!.id).sort());
    expect(body.total).toBe(3);
    expect(body.facets).toEqual({
      country: [
        { value: "DE", count: 1 },
        { value: "NL", count: 1 },
      ],
      tag: [
        { value: "b", count: 3 },
        { value: "a", count: 2 },
      ],
    });
    // In pages nobody sees them either; a page counts out those whom it would have shown.
    const shown: string[] = [];
    for (let page = await firstPage(store, { ...wanted, limit: 2 }); ; ) {
      shown.push(...page.body.hits.map((hit) => hit.id));
      if (!page.next) break;
      page = await nextPage(store, { ...wanted, limit: 2 }, page.next);
    }
    expect(shown.sort()).toEqual([1, 2, 3].map((i) => people[i]!.id).sort());
    const four = await firstPage(store, { ...wanted, limit: 4 });
    expect([four.body.total, four.next === undefined]).toEqual([3, false]);
    await client.close();
  });

  it("keeps a tombstone longer than the engine remembers a deletion", async () => {
    const { client, names } = await open("tomb");
    const p = person({ displayName: "Gone" });
    const old = eventOf(p);
    change(p, { erased: true });
    expect(await writeUsers(client, names, [old, eventOf(p)])).toEqual(["applied", "applied"]);
    await refresh(client, names);
    // What the engine would forget: a document that was really deleted comes back with any version.
    await client.index({
      index: names.users,
      id: "really-deleted",
      document: {},
      version: 5,
      version_type: "external",
    });
    await client.delete({ index: names.users, id: "really-deleted", version: 6, version_type: "external" });
    await eventually(async () => {
      const again = { index: names.users, id: "really-deleted", version: 5, version_type: "external" } as const;
      return client.index({ ...again, document: {} }).then(
        () => true,
        () => false,
      );
    });
    expect(await writeUsers(client, names, [old])).toEqual(["stale"]);
    expect((await stored(client, names, [p.id])).get(p.id)).toEqual({ version: 2, deleted: true });
    await client.close();
  });

  it("writes large batches in bounded requests, and judges each item by itself", async () => {
    const { client, names } = await open("bulk");
    const people = Array.from({ length: 2500 }, () => person({ bio: "ü€𝄞 ".repeat(100) }));
    const events = people.map(eventOf);
    const poison = eventOf(person({ revision: "many" as unknown as number }));
    events.splice(1200, 0, poison);
    const verdicts = await writeUsers(client, names, events);
    expect(verdicts).toHaveLength(2501);
    expect(verdicts[1200]).toEqual({ poison: expect.stringContaining("document_parsing_exception") });
    expect(verdicts.filter((v) => v === "applied")).toHaveLength(2500);
    expect(new Set(await writeUsers(client, names, people.map(eventOf)))).toEqual(new Set(["stale"]));
    await client.close();
  });

  it("ends the same, whatever the order, the duplicates, the cuts and the restarts", async () => {
    const { client, names, make } = await open("prop");
    const ids = new Map<string, string>();
    const idOf = (key: string) => {
      const known = ids.get(key) ?? uuidv7();
      ids.set(key, known);
      return known;
    };
    const eventFor = ({ key, version, value }: StateChange): UserEvent => {
      const time = new Date(0);
      const id = idOf(key);
      if (!value) return emit.userTombstone(id, version, { time }).event as UserEvent;
      const { version: _, erased: __, ...fields } = person({ id, displayName: value.name, revision: value.score + 1 });
      return emit.userState(fields, version, { time }).event as EventOf<"quartet.user.state.v1">;
    };
    await checkProjection<StateChange, ReturnType<typeof newestStates>>({
      history: stateChanges(),
      compactedBy: (event) => event.key,
      model: newestStates,
      runs: 12,
      async fresh() {
        await client.indices.delete({ index: "prop-users-v3" });
        await make();
        ids.clear();
        let replica = client;
        return {
          deliver: (batch: Item<StateChange>[]) =>
            writeUsers(
              replica,
              names,
              batch.map((item) => eventFor(item.event)),
            ),
          async restart() {
            if (replica !== client) await replica.close();
            replica = connectElasticsearch(shared.world.elasticsearch.urlFor("search"), 10_000);
          },
          read: () => living(names),
          async close() {
            if (replica !== client) await replica.close();
          },
        };
      },
    });
    async function living(from: IndexNames) {
      await refresh(client, from);
      const { hits } = await client.search<UserDocument>({
        index: from.users,
        query: { term: { deleted: false } },
        size: 100,
      });
      const keys = new Map([...ids].map(([key, id]) => [id, key]));
      const states = hits.hits.map(({ _source: s }): [string, { name: string; score: number }] => [
        keys.get(s!.id)!,
        { name: s!.displayName!, score: s!.revision! - 1 },
      ]);
      return Object.fromEntries(states.sort(([a], [b]) => (a < b ? -1 : 1)));
    }
    await client.close();
  });
}
