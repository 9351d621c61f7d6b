import { setTimeout as sleep } from "node:timers/promises";
import { auditBucket, BucketDigest, emit, profileDigest, uuidv7 } from "@quartet/contracts";
import { expect, it } from "vitest";
import { warmUp } from "../../src/store/warmup.ts";
import { eventually } from "../process.ts";
import { change, type Person, person, type Shared, seen as visible } from "../world.ts";

const INDEX = "t-users";

export function internal(shared: Shared) {
  const call = (method: string, path: string, body?: unknown) => shared.service.call(method, path, body);
  const seen = (...people: Person[]) => visible(shared.service, ...people);

  it("answers to services alone", async () => {
    for (const path of ["/internal/status", "/internal/digests", `/internal/similar/${uuidv7()}`]) {
      expect((await shared.service.get(path)).status).toBe(401);
      expect((await shared.service.call("GET", path, undefined, { kind: "operator" })).status).toBe(403);
    }
  });

  it("finds people who are alike, never the person, never an erased one", async () => {
    const me = person({ tags: ["kites", "wind"], country: "NL", bio: "Flying kites over the dunes" });
    const both = person({ tags: ["kites", "wind"] });
    const one = person({ tags: ["kites"] });
    const gone = person({ tags: ["kites", "wind"] });
    await shared.world.publish(me, both, one, gone);
    await seen(me, both, one, gone);
    await shared.world.publish(change(gone, { erased: true }));
    await seen(gone);
    const { body } = await call("GET", `/internal/similar/${me.id}?limit=2`);
    expect(body.similar.map((p: Person) => p.id)).toEqual([both.id, one.id]);
    expect((await call("GET", `/internal/similar/${uuidv7()}`)).status).toBe(404);
    expect((await call("GET", "/internal/similar/nonsense")).status).toBe(400);
  });

  it("makes sure of an erasure, before and after the event has come", async () => {
    const p = person({ displayName: "Vergissmeinnicht Quaddelbeck", bio: "quaddelbeck", handle: "quaddelbeck" });
    await shared.world.publish(p);
    await seen(p);
    change(p, { erased: true });
    // Before the tombstone has come.
    const answer = await call("POST", "/internal/erasures", { userId: p.id, version: p.version });
    expect(answer.body).toEqual({ state: "complete" });
    expect((await shared.service.get("/v1/search?q=quaddelbeck")).body.total).toBe(0);
    const probe = person();
    await shared.world.publish(p, probe);
    await seen(probe);
    expect((await shared.service.get("/v1/search?q=quaddelbeck")).body.total).toBe(0);
    const held = await shared.world.admin.get({ index: INDEX, id: p.id });
    expect(held._source).toEqual({ id: p.id, deleted: true, bucket: auditBucket(p.id) });
    // A version that the store does not have yet is not claimed while a newer state stands.
    const alive = person({ version: 10 });
    await shared.world.publish(alive);
    await seen(alive);
    const pending = await call("POST", "/internal/erasures", { userId: alive.id, version: 9 });
    expect(pending.body).toEqual({ state: "pending" });
    expect((await call("POST", "/internal/erasures", { userId: "x", version: -1 })).status).toBe(400);
  });

  it("digests what the index holds, changes by hand included", async () => {
    const p = person({ displayName: "Prüfling", tags: ["digest"] });
    await shared.world.publish(p);
    await seen(p);
    const bucket = auditBucket(p.id);
    const buckets = async () =>
      (await call("GET", "/internal/digests")).body.buckets as { count: number; digest: string }[];
    const users = async () =>
      (await call("GET", `/internal/digests/${bucket}`)).body.users as {
        id: string;
        digest: string;
        version: number;
      }[];
    /** The summary agrees with the details, and these with what the owner knows. */
    const consistent = async () => {
      const sum = new BucketDigest();
      const listed = await users();
      for (const { id, digest, version } of listed) sum.add(id, digest, version);
      const all = await buckets();
      return all.length === 256 && all[bucket]?.digest === sum.value().digest && all[bucket]?.count === listed.length;
    };
    await eventually(consistent);
    expect(await users()).toContainEqual({ id: p.id, digest: profileDigest(p), version: 1 });

    change(p, { bio: "changed" });
    await shared.world.publish(p);
    await seen(p);
    await eventually(consistent);
    expect(await users()).toContainEqual({ id: p.id, digest: profileDigest(p), version: 2 });

    await shared.world.admin.update({ index: INDEX, id: p.id, doc: { bio: "by hand" }, refresh: true });
    await eventually(consistent);
    expect((await users()).find((u) => u.id === p.id)?.digest).not.toBe(profileDigest(p));

    await shared.world.admin.delete({ index: INDEX, id: p.id, refresh: true });
    await eventually(consistent);
    expect((await users()).some((u) => u.id === p.id)).toBe(false);

    // Changes by hand count versions too: a repair is above what the store knows.
    change(p, { bio: "mended" });
    p.version += 10;
    await shared.world.publish(p);
    await seen(p);
    await eventually(consistent);
    expect(await users()).toContainEqual({ id: p.id, digest: profileDigest(p), version: 13 });
    const total = (await shared.service.get("/v1/search?limit=1")).body.total;
    await eventually(async () => (await buckets()).reduce((n, b) => n + b.count, 0) === total);
    expect((await call("GET", "/internal/digests/256")).status).toBe(400);
    expect((await call("GET", "/internal/digests/x")).status).toBe(400);
  });

  it("parks what can never be indexed, and tells how it is", async () => {
    const before = (await call("GET", "/internal/status")).body;
    expect(before).toMatchObject({ store: { up: true, documents: expect.any(Number) }, nats: { up: true } });
    await shared.world.raw("users.nonsense", "not json");
    const stranger = emit.userState({ ...person() }, 1, { time: new Date() });
    await shared.world.raw(`users.${uuidv7()}`, JSON.stringify(stranger.event));
    const at = await shared.world.beat();
    const status = await eventually(async () => {
      const { body } = await call("GET", "/internal/status");
      const { search } = body.projectors;
      return search.deadLetters === 2 && search.lag === 0 && Date.parse(search.asOf) >= at.getTime() && body;
    });
    expect(status.store.documents).toBe((await shared.service.get("/v1/search?limit=1")).body.total);
    expect(status.projectors.search.stalenessSeconds).toBeGreaterThanOrEqual(0);
  });
  it("warms the engine up although its first requests are refused", async () => {
    const { admin } = shared.world;
    const index = "warm-warm-up-users-v3";
    const block = (on: boolean) => admin.indices.putSettings({ index, settings: { "index.blocks.read": on } });
    const searched = async () =>
      (await admin.indices.stats({ index, metric: "search" })).indices?.[index]?.total?.search?.query_total ?? 0;
    const ending = new AbortController();
    const warm = warmUp(admin, "warm", 60_000, ending.signal);
    await eventually(() => admin.indices.exists({ index }), { what: "its index" });
    await block(true);
    // Until it has met the block: what it asks is refused.
    for (let before = -1; before !== (await searched()); await sleep(300)) before = await searched();
    await block(false);
    const before = await searched();
    await eventually(async () => (await searched()) > before + 20, { what: "more searches" });
    ending.abort();
    await warm;
    expect(await admin.indices.exists({ index })).toBe(false);
  });
}
