import { describe, expect, it } from "vitest";
import { signUp, unique } from "../lib/client.ts";
import { client } from "../lib/system.ts";

const find = (query: Record<string, string>, after?: string) =>
  client.get(`/v1/search?${new URLSearchParams(query)}`, after ? { after } : {});

describe("search", () => {
  it("sees its own write, folds accents and case, forgives a typo and completes a prefix", async () => {
    const word = unique("Zürcherhälg").replaceAll("_", "");
    const person = await signUp(client, { displayName: `José ${word} Müller`, country: "CH", tags: ["alpine"] });
    const own = await find({ q: word }, person.created);
    expect(own.status).toBe(200);
    expect(own.headers.get("preference-applied")).toMatch(/wait/);
    expect(own.headers.get("quartet-as-of")).toMatch(/^\d{4}-.*Z$/);
    const folded = word.normalize("NFKD").replace(/\p{M}/gu, "").toUpperCase();
    for (const q of [folded, word.slice(0, 9), `jose ${folded}`, `muller ${folded}`]) {
      const { body } = await find({ q });
      expect(
        body.hits.map((h: { id: string }) => h.id),
        q,
      ).toContain(person.id);
    }
    const hit = own.body.hits[0];
    expect(hit).toMatchObject({
      id: person.id,
      handle: person.handle,
      country: "CH",
      tags: ["alpine"],
      score: expect.any(Number),
    });
    expect(JSON.stringify(hit.highlight)).toContain("<em>");
    expect(hit).not.toHaveProperty("email");
  });

  it("puts the exact handle first", async () => {
    const handle = unique("quill");
    const exact = await signUp(client, { handle, displayName: "Nobody In Particular" });
    const other = await signUp(client, { displayName: `${handle} ${handle} ${handle}`, bio: `${handle} ${handle}` });
    await find({ q: handle }, exact.created);
    const { body } = await find({ q: handle }, other.created);
    expect(body.hits[0].id).toBe(exact.id);
  });

  it("filters, counts exactly and facets", async () => {
    const tag = unique("t").replaceAll("_", "-");
    const people = [];
    for (const country of ["DE", "DE", "FR"]) people.push(await signUp(client, { country, tags: [tag, "shared"] }));
    for (const p of people) await find({ tag }, p.created);
    const { body } = await find({ tag });
    expect(body.total).toBe(3);
    expect(body.facets.country).toEqual([
      { value: "DE", count: 2 },
      { value: "FR", count: 1 },
    ]);
    expect(body.facets.tag).toContainEqual({ value: tag, count: 3 });
    expect((await find({ tag, country: "DE" })).body.total).toBe(2);
  });

  it("pages through everybody once while writes go on", async () => {
    const tag = unique("p").replaceAll("_", "-");
    const users = Array.from({ length: 45 }, (_, i) => ({
      key: `${tag}-${i}`,
      displayName: `Pager ${i}`,
      tags: [tag],
    }));
    const imported = await client.post("/v1/admin/import", { users }, { token: client.operatorToken });
    expect(imported.status).toBe(200);
    const seen: string[] = [];
    let cursor: string | undefined;
    let first = true;
    do {
      const { status, body } = await find(
        { tag, limit: "10", ...(cursor ? { cursor } : {}) },
        first ? (imported.token as string) : undefined,
      );
      expect(status).toBe(200);
      expect(body.total).toBe(45);
      seen.push(...body.hits.map((h: { id: string }) => h.id));
      cursor = body.nextCursor;
      first = false;
      await client.post(
        "/v1/admin/import",
        { users: users.slice(0, 20).map((u) => ({ ...u, displayName: `${u.displayName} changed ${seen.length}` })) },
        { token: client.operatorToken },
      );
    } while (cursor);
    expect(seen).toHaveLength(45);
    expect(new Set(seen).size).toBe(45);
  });

  it("suggests as one types", async () => {
    const word = unique("Fenchel").replaceAll("_", "");
    const person = await signUp(client, { displayName: `${word} Tester` });
    const { body } = await client.get(`/v1/search/suggest?q=${word.slice(0, -1)}&limit=5`, { after: person.created });
    expect(body.suggestions).toContainEqual({ id: person.id, handle: person.handle, displayName: `${word} Tester` });
  });
});
