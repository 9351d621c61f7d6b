import { encodeToken, uuidv7 } from "@quartet/contracts";
import { expect, it } from "vitest";
import { eventually } from "../process.ts";
import { after, change, person, type Shared } from "../world.ts";

export function freshness(shared: Shared) {
  it("shows a change to whoever waits for it, and soon to everybody", async () => {
    const p = person({ displayName: "Wartezeit" });
    for (let i = 0; i < 10; i++) {
      change(p, { displayName: `Wartezeit w${i}x` });
      await shared.world.publish(p);
      const mine = await eventually(async () => {
        const answer = await shared.service.get(`/v1/search?q=w${i}x`, after(p));
        return answer.status === 200 && answer;
      });
      expect(mine.headers.get("preference-applied")).toBe("wait");
      expect(mine.body.hits.map((h: { id: string }) => h.id)).toEqual([p.id]);
    }
    change(p, { displayName: "Unaufgefordert" });
    await shared.world.publish(p);
    await eventually(async () => (await shared.service.get("/v1/search?q=unaufgefordert")).body.total === 1);
  });

  it("says that it is stale when the wait runs out", async () => {
    const token = encodeToken({ u: [[uuidv7(), 5]] });
    const answer = await shared.service.get("/v1/search", { "consistency-token": token, prefer: "wait=1" });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("quartet-freshness")).toBe("stale");
    expect(answer.headers.has("preference-applied")).toBe(false);
    const bad = await shared.service.get("/v1/search", { "consistency-token": "$" });
    expect(bad.status).toBe(400);
    expect(bad.body.errors[0].path).toBe("Consistency-Token");
  });

  it("says as of when it is true: not before everything until then can be found", async () => {
    const many = Array.from({ length: 200 }, (_, i) => person({ displayName: `Uhrwerk u${i}` }));
    await shared.world.publish(...many);
    const at = await shared.world.beat();
    const answer = await eventually(async () => {
      const found = await shared.service.get("/v1/search?q=uhrwerk&limit=1");
      return (
        found.status === 200 && Date.parse(found.headers.get("quartet-as-of") ?? "1970-01-01") >= at.getTime() && found
      );
    });
    expect(answer.body.total).toBe(200);
    const waiting = encodeToken({ a: { user: at.toISOString() } });
    const there = await shared.service.get("/v1/search", { "consistency-token": waiting, prefer: "wait=2" });
    expect(there.headers.get("preference-applied")).toBe("wait");
  });
}
