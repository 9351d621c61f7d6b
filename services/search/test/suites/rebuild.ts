import { fixtures } from "@quartet/contracts/fixtures";
import { expect, it } from "vitest";
import { eventually, startService } from "../process.ts";
import { change, type Person, person, type Shared, seen as visible } from "../world.ts";

export function rebuild(shared: Shared) {
  const { get, call } = {
    get: (query: Record<string, string>) => shared.service.get(`/v1/search?${new URLSearchParams(query)}`),
    call: (method: string) => shared.service.call(method, "/internal/rebuild"),
  };
  const state = async () => (await call("GET")).body;
  const digests = async () => JSON.stringify((await shared.service.call("GET", "/internal/digests")).body.buckets);
  const indexes = async () => Object.keys(await shared.world.admin.indices.getAlias({ index: "t-users-v*" })).sort();
  const beating = () => setInterval(() => void shared.world.beat().catch(() => {}), 250);

  it("rebuilt equals incremental: whole answers, open pages and erasures included, with a SIGKILL in the middle", async () => {
    const crowd = Array.from({ length: 500 }, (_, i) => person({ displayName: `Moved ${i}`, tags: ["moving"] }));
    await shared.world.publish(...crowd);
    await visible(shared.service, ...crowd.slice(-50));
    const beat = beating();
    try {
      const [gone, forged] = crowd as [Person, Person];
      await shared.world.admin.update({ index: "t-users", id: forged.id, doc: { bio: "forged" }, refresh: true });
      const first = await get({ tag: "moving", limit: "100" });
      const before = await indexes();
      expect((await call("POST")).status).toBe(202);
      expect((await call("POST")).status).toBe(409);
      await shared.service.kill();
      shared.service = await shared.world.start();
      change(gone, { erased: true });
      await shared.world.publish(gone);
      await visible(shared.service, gone);
      const added: Person[] = [];
      for (let round = 0; (await state()).state !== "complete"; round++) {
        const some = crowd.slice(10 + (round % 40) * 10, 20 + (round % 40) * 10);
        for (const p of some) change(p, { displayName: `Moved again ${round}` });
        const fresh = person({ displayName: "Newly moved", tags: ["newly"] });
        added.push(fresh);
        await shared.world.publish(...some, fresh);
        const answer = await get({ tag: "moving", limit: "1" });
        if (answer.status === 200) expect(answer.body.total).toBe(499);
        // What was seen once stays seen.
        await visible(shared.service, fresh);
        expect((await get({ tag: "newly", limit: "1" })).body.total).toBe(added.length);
      }
      expect((await get({ tag: "newly", limit: "1" })).body.total).toBe(added.length);
      expect(await indexes()).not.toEqual(before);
      expect((await get({ q: "forged", limit: "1" })).body.total).toBe(0);
      expect((await get({ tag: "moving", limit: "1" })).body.total).toBe(499);
      // The walk that was begun in the old index is finished there, without the erased.
      const walked: string[] = first.body.hits.map((h: Person) => h.id);
      for (let cursor = first.body.nextCursor; cursor; ) {
        const page = await get({ tag: "moving", limit: "100", cursor });
        expect(page.status).toBe(200);
        walked.push(...page.body.hits.map((h: Person) => h.id));
        cursor = page.body.nextCursor;
      }
      expect(new Set([...walked, gone.id]).size).toBe(500);
      await visible(shared.service, ...crowd.slice(0, 50), ...added);
      const replaced = before[0] as string;
      const stats = await shared.world.admin.indices.stats({ index: replaced, metric: "search" }, { ignore: [404] });
      // It is kept as long as somebody may turn its pages, and no longer.
      if (!stats.indices?.[replaced]?.total?.search?.open_contexts) {
        await eventually(async () => !(await indexes()).includes(replaced), { what: "the old index gone" });
      }
      const sums = await digests();
      const { startedAt } = await state();
      expect((await call("POST")).status).toBe(202);
      await eventually(async () => {
        const now = await state();
        return now.state === "complete" && now.startedAt > startedAt;
      });
      expect(await digests()).toBe(sums);
    } finally {
      clearInterval(beat);
    }
  }, 400_000);

  it("takes over events of every past version", async () => {
    const kept = fixtures().filter(({ subject }) => subject.startsWith("users."));
    for (const { subject, event } of kept) await shared.world.raw(subject, JSON.stringify(event));
    await eventually(async () => (await get({ q: "ada_l" })).body.hits?.[0]?.displayName === "Ada Lovelace – 愛");
    for (const { subject, event } of kept) {
      const id = subject.slice("users.".length);
      const held = await eventually(() => shared.world.admin.get({ index: "t-users", id }).catch(() => undefined));
      expect(held).toMatchObject({ _version: event.version, _source: { deleted: event.type.includes("tombstone") } });
    }
  });

  it("takes over an installation of the version before: it answers meanwhile, and all is found by the new rules after", async () => {
    const { admin } = shared.world;
    const words = { type: "text", analyzer: "whitespace", index_prefixes: { min_chars: 1, max_chars: 12 } } as const;
    const keyword = { type: "keyword" } as const;
    await admin.indices.create({
      index: "up-users-v2",
      aliases: { "up-users": {} },
      mappings: {
        dynamic: "strict",
        _meta: { replayed: true },
        properties: {
          ...{ id: keyword, handle: keyword, country: keyword, tags: keyword, displayName: keyword, bio: keyword },
          ...{ name: words, handleText: words, bioText: words, tagText: words },
          ...{ deleted: { type: "boolean" }, bucket: { type: "short" }, revision: { type: "long" } },
          note: { type: "object", enabled: false },
        },
      },
    });
    const p = person({ displayName: "De Souza 김철수" });
    const { id, handle } = p;
    const document = { id, handle, displayName: p.displayName, deleted: false, name: "de souza 김철수", tags: ["old"] };
    await admin.index({ index: "up-users", id, version: 1, version_type: "external", document, refresh: true });
    const beat = beating();
    const service = await startService("search", new URL("../../src/main.ts", import.meta.url), {
      ELASTICSEARCH_URL: shared.world.elasticsearch.urlFor("search"),
      NATS_URL: shared.world.nats.urlFor("search"),
      INDEX_PREFIX: "up",
    });
    const find = (q: string) => service.get(`/v1/search?q=${encodeURIComponent(q)}`);
    try {
      await shared.world.publish(p);
      const live = async () => Object.keys(await admin.indices.getAlias({ name: "up-users" })).join();
      for (let old = true; old; ) {
        const answers = [await find("suoza"), await find("souza"), await service.get("/v1/search/suggest?q=suoza")];
        old = (await live()) === "up-users-v2";
        // Not a word of the new rules yet, and not an error either.
        for (const { status } of answers) expect([200, 503]).toContain(status);
        if (old) expect(answers[1]!.body.hits?.map((hit: Person) => hit.id) ?? [id]).toContain(id);
      }
      await eventually(() => service.ready(), { what: "the new version ready" });
      for (const q of ["desouza", "철수", "suoza"]) {
        await eventually(async () => (await find(q)).body.hits?.some((hit: Person) => hit.id === id), { what: q });
      }
    } finally {
      clearInterval(beat);
      await service.kill();
    }
  }, 120_000);
}
