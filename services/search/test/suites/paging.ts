import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { beforeAll, expect, it } from "vitest";
import { connectElasticsearch } from "../../src/store/client.ts";
import { indexNames } from "../../src/store/indexes.ts";
import { createSnapshots } from "../../src/store/pits.ts";
import { eventually } from "../process.ts";
import { after, change, type Person, person, type Shared, seen as visible } from "../world.ts";

const PEOPLE = 5000;
const crowd = Array.from({ length: PEOPLE }, (_, i) =>
  person({ displayName: `Walker ${i % 7 === 0 ? "Walker Walker" : "Step"} n${i}`, tags: ["crowd"], country: "NO" }),
);

export function paging(shared: Shared) {
  const get = (query: Record<string, string>, headers = {}) =>
    shared.service.get(`/v1/search?${new URLSearchParams(query)}`, headers);

  beforeAll(async () => {
    await shared.world.publish(...crowd);
    await eventually(async () => (await get({ tag: "crowd", limit: "1" })).body.total === PEOPLE);
    await shared.world.beat();
  });

  it.each([
    ["browsing", { tag: "crowd" }],
    ["by score", { tag: "crowd", q: "walker" }],
  ])("visits everybody once while writes go on, %s", async (_, query) => {
    const seen: string[] = [];
    let cursor: string | undefined;
    let round = 0;
    const asOf = new Set<string | null>();
    do {
      const answer = await get({ ...query, limit: "100", ...(cursor ? { cursor } : {}) });
      expect(answer.status).toBe(200);
      expect(answer.body.total).toBe(PEOPLE);
      expect(answer.body.facets.country).toEqual([{ value: "NO", count: PEOPLE }]);
      seen.push(...answer.body.hits.map((h: Person) => h.id));
      asOf.add(answer.headers.get("quartet-as-of"));
      cursor = answer.body.nextCursor;
      const some = crowd.slice(round * 60, round * 60 + 60);
      for (const p of some) change(p, { displayName: `Changed walker walker ${round}` });
      round++;
      await shared.world.publish(...some);
    } while (cursor);
    expect(seen).toHaveLength(PEOPLE);
    expect(new Set(seen).size).toBe(PEOPLE);
    // All pages are of one moment, and say so.
    expect(asOf.size).toBe(1);
  });

  it("shows nobody who was erased since the walk began", async () => {
    const first = await get({ tag: "crowd", limit: "50" });
    const second = await get({ tag: "crowd", limit: "50", cursor: first.body.nextCursor });
    const doomed = second.body.hits.slice(0, 10).map((h: Person) => crowd.find((p) => p.id === h.id)) as Person[];
    for (const p of doomed) change(p, { erased: true });
    await shared.world.publish(...doomed);
    await visible(shared.service, ...doomed);
    const again = await get({ tag: "crowd", limit: "50", cursor: first.body.nextCursor });
    expect(again.status).toBe(200);
    const ids = again.body.hits.map((h: Person) => h.id);
    expect(ids).toEqual(second.body.hits.slice(10).map((h: Person) => h.id));
    expect(again.body.nextCursor).toBeDefined();
    expect((await get({ tag: "crowd", limit: "1" })).body.total).toBe(PEOPLE - doomed.length);
  });

  it("gives no cursor for a result that fits, nor with the last page", async () => {
    const fits = await get({ q: crowd[0]!.handle, limit: "100" });
    expect(fits.body.hits[0].id).toBe(crowd[0]!.id);
    expect(fits.body).not.toHaveProperty("nextCursor");
    const handful = Array.from({ length: 4 }, () => person({ tags: ["handful"] }));
    await shared.world.publish(...handful);
    await visible(shared.service, ...handful);
    const one = await get({ tag: "handful", limit: "2" });
    const two = await get({ tag: "handful", limit: "2", cursor: one.body.nextCursor });
    expect(two.body.hits).toHaveLength(2);
    expect(two.body).not.toHaveProperty("nextCursor");
    // Asked for again, it is the same page.
    expect((await get({ tag: "handful", limit: "2", cursor: one.body.nextCursor })).body).toEqual(two.body);
    const stale = await get({ tag: "handful", limit: "2", cursor: one.body.nextCursor }, after(...handful));
    expect(stale.headers.get("preference-applied")).toBe("wait");
    change(handful[0]!, { bio: "later" });
    await shared.world.publish(handful[0]!);
    const later = await get({ tag: "handful", limit: "2", cursor: one.body.nextCursor }, after(handful[0]!));
    expect(later.headers.get("quartet-freshness")).toBe("stale");
  });

  it("refuses a cursor that is forged, or of another query, or over", async () => {
    const { body } = await get({ tag: "crowd", q: "walker", limit: "10" });
    const cursor = body.nextCursor as string;
    const refused = async (query: Record<string, string>, ...paths: string[]) => {
      const answer = await get(query);
      expect(answer.status).toBe(400);
      expect(answer.body.errors.map((e: { path: string }) => e.path)).toEqual(["cursor", ...paths]);
    };
    await refused({ tag: "crowd", q: "other", limit: "10", cursor }, "q");
    await refused({ q: "walker", limit: "10", cursor }, "q");
    await refused({ tag: "crowd", q: "walker", country: "NO", cursor }, "q");
    await refused({ tag: "crowd", q: "walker", cursor: `x${cursor.slice(1)}` }, "q");
    await refused({ tag: "crowd", q: "walker", cursor: cursor.slice(0, -2) });
    await refused({ tag: "crowd", q: "walker", cursor: `${cursor}.x` });
    expect((await get({ tag: "crowd", q: "walker", limit: "20", cursor })).status).toBe(200);
    const [pit] = JSON.parse(Buffer.from(cursor.split(".")[0]!, "base64url").toString());
    await shared.world.admin.closePointInTime({ id: pit });
    await refused({ tag: "crowd", q: "walker", cursor }, "q");
  });

  it("opens few snapshots for many walks", async () => {
    let walks = 0;
    await eventually(async () => {
      const answers = await Promise.all(Array.from({ length: 10 }, () => get({ tag: "crowd", limit: "1" })));
      walks += answers.filter((a) => a.status === 200).length;
      return walks >= 200;
    });
    const stats = await shared.world.admin.indices.stats({ index: "t-users", metric: "search" });
    expect(stats._all?.total?.search?.open_contexts).toBeLessThan(walks / 2);
  });

  it("remembers nothing of 50,000 walks that were left in the middle", async () => {
    const client = connectElasticsearch(shared.world.elasticsearch.urlFor("search"), 10_000);
    const snapshots = createSnapshots(client, indexNames("t"), async () => undefined, { keepAliveMs: 300 });
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const heap = () => {
      collect();
      return process.memoryUsage().heapUsed;
    };
    const walkAway = async (walks: number) => {
      // Each hundred from a snapshot of its own.
      for (let i = 0; i < walks; i++) {
        if (i % (walks / 10) === 0) await snapshots.take(performance.now());
        snapshots.begun(`pit ${Math.floor(i / 100)}`);
      }
    };
    await walkAway(1000);
    const before = heap();
    await walkAway(50_000);
    await sleep(400);
    snapshots.begun("the last");
    expect(snapshots.remembered).toBe(2);
    expect(heap() - before).toBeLessThan(1024 * 1024);
    await client.close();
  });

  it("closes a snapshot early only when all its walks have ended", async () => {
    const client = connectElasticsearch(shared.world.elasticsearch.urlFor("search"), 10_000);
    const snapshots = createSnapshots(client, indexNames("t"), async () => undefined);
    const { pit } = await snapshots.take(0);
    const walks = Array.from({ length: 250 }, () => snapshots.begun(pit));
    expect(snapshots.remembered).toBeLessThan(110);
    for (const walk of walks) snapshots.ended(pit, walk);
    // More than are remembered: it is left to end by itself.
    expect(snapshots.remembered).toBe(1);
    await client.closePointInTime({ id: pit });
    await client.close();
  });
}
