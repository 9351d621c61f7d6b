import { expect, it } from "vitest";
import { eventually } from "../process.ts";
import { change, person, type Shared, seen } from "../world.ts";

const READS = ["/v1/search", "/v1/search?q=maria", "/v1/search/suggest?q=ma"];

export function faults(shared: Shared) {
  /** Every read says at once that it cannot. */
  const unavailable = async () => {
    for (const path of [...READS, ...READS]) {
      const answer = await shared.service.get(path);
      expect(answer.status).toBe(503);
      expect(answer.headers.get("retry-after")).toBe("1");
      expect(answer.ms).toBeLessThan(2000);
    }
    const { body } = await shared.service.call("GET", "/internal/status");
    expect(body.store).toEqual({ up: false });
  };
  const works = () =>
    eventually(async () => (await shared.service.get("/v1/search?q=maria")).status === 200, { what: "recovery" });

  it("says 503 while Elasticsearch is frozen, and goes on after", async () => {
    const p = person({ displayName: "Eiszeit" });
    shared.world.elasticsearch.freeze();
    try {
      await unavailable();
      expect(await shared.service.ready()).toBe(false);
      await shared.world.publish(p);
    } finally {
      shared.world.elasticsearch.thaw();
    }
    await works();
    await seen(shared.service, p);
    expect((await shared.service.get("/v1/search?q=eiszeit")).body.total).toBe(1);
  });

  it("loses nothing when Elasticsearch is killed, and finds its way back", async () => {
    const { body } = await shared.service.get("/v1/search?limit=10");
    const cursor = body.nextCursor as string;
    const many = Array.from({ length: 300 }, (_, i) => person({ displayName: `Stromausfall s${i}` }));
    await shared.world.publish(...many.slice(0, 100));
    await shared.world.elasticsearch.kill();
    await unavailable();
    await shared.world.publish(...many.slice(100));
    const changed = many.slice(0, 50).map((p) => change(p, { bio: "later" }));
    await shared.world.publish(...changed);
    await shared.world.elasticsearch.start();
    await works();
    await eventually(async () => (await shared.service.get("/v1/search?q=stromausfall")).body.total === 300);
    await seen(shared.service, ...changed);
    const old = await shared.service.get(`/v1/search?limit=10&cursor=${cursor}`);
    expect(old.status).toBe(400);
    expect(old.body.errors[0].path).toBe("cursor");
  });

  it("fills an index that was deleted, and does not claim to be true meanwhile", async () => {
    const many = Array.from({ length: 500 }, () => person({ displayName: "Wiederkehr" }));
    const gone = change(person({ displayName: "Wiederkehr" }), { erased: true });
    await shared.world.publish(...many, gone);
    await seen(shared.service, ...many, gone);
    await shared.world.beat();
    const before = (await shared.service.get("/v1/search?limit=1")).body.total as number;
    const used = Object.keys(await shared.world.admin.indices.getAlias({ name: "t-users" }));
    await shared.world.admin.indices.delete({ index: used });
    const stop = new AbortController();
    const beating = (async () => {
      while (!stop.signal.aborted) {
        await shared.world.beat();
        await new Promise((done) => setTimeout(done, 100));
      }
    })();
    try {
      await eventually(async () => {
        const answer = await shared.service.get("/v1/search?limit=1");
        if (answer.status !== 200) return false;
        // Whenever it claims a time, everything is there.
        if (answer.headers.has("quartet-as-of")) expect(answer.body.total).toBe(before);
        return answer.headers.has("quartet-as-of");
      });
    } finally {
      stop.abort();
      await beating;
    }
    expect((await shared.service.get("/v1/search?q=wiederkehr")).body.total).toBe(500);
  });

  it("ends in order", async () => {
    expect(await shared.service.stop()).toBe(0);
  });
}
