import { beforeAll, expect, it } from "vitest";
import { type Person, person, type Shared, seen } from "../world.ts";

const at = Date.now() - 1_000_000;
const people: Person[] = [];
const add = (handle: string, displayName: string, fields: Partial<Person> = {}) =>
  people.push(person({ handle, displayName, ...fields, createdAt: new Date(at + people.length).toISOString() }));

add("jgarcia", "José García", { bio: "Bäcker & Imker in Sevilla", country: "ES", tags: ["bread", "honey-bees"] });
add("jmueller", "Jürgen Müller", { bio: "Schreibt über Datenbanken", country: "DE", tags: ["databases"] });
add("maria", "Nobody At All", { country: "SE" });
add("mk_77", "Maria Maria Maria", { bio: "maria maria", country: "IT", tags: ["maria"] });
add("mlopez", "Mariana López", { country: "MX" });
add("mpopov", "Мария Попова", { country: "BG" });
add("tanaka", "田中 太郎", { country: "JP", bio: "東京に住んでいます" });
add("nakata", "中田 英寿", { country: "JP" });
add("ahmad", "أحمد علي", { country: "EG" });
add("minsu", "김민수", { country: "KR" });
add("suzuki_m", "スズキ マリア", { country: "JP" });
add("soren_k", "Søren Kierkegaard", { country: "DK" });
add("sobrien", "Seán O'Brien", { country: "IE" });
add("jlp", "Jean-Luc Picard", { country: "FR" });
add("ada_lovelace", "Ada L", { bio: "<script>alert(1)</script> wrote programs", tags: ["analytical-engine"] });
add("weiss", "Bärbel Weißgerber", { country: "AT" });
add("party", "🎉 Party 🎉");
add("yilmaz", "Işıl Yılmaz", { country: "TR" });
add("bread_fan", "Brot Freund", { bio: "I love garcia bread" });

const hits = async ({ service }: Shared, q: string, more = "") => {
  const answer = await service.get(`/v1/search?q=${encodeURIComponent(q)}${more}`);
  expect(answer.status, JSON.stringify(answer.body)).toBe(200);
  return answer.body.hits.map((h: { handle: string }) => h.handle) as string[];
};

export function relevance(shared: Shared) {
  beforeAll(async () => {
    await shared.world.publish(...people);
    await seen(shared.service, ...people);
  });

  it.each([
    // accents and case
    ["jose", "jgarcia"],
    ["JOSÉ", "jgarcia"],
    ["garcia", "jgarcia"],
    ["muller", "jmueller"],
    ["Müller", "jmueller"],
    ["MULLER", "jmueller"],
    ["mueller", "jmueller"],
    ["soren", "soren_k"],
    ["weissgerber", "weiss"],
    ["isil yilmaz", "yilmaz"],
    // typing errors
    ["gracia", "jgarcia"],
    ["kierkegard", "soren_k"],
    ["kirkegaard", "soren_k"],
    ["pikard", "jlp"],
    // beginnings
    ["kierk", "soren_k"],
    ["jean-l", "jlp"],
    ["ada_love", "ada_lovelace"],
    // several words
    ["jose garcia", "jgarcia"],
    ["garcia jose", "jgarcia"],
    ["jose imker", "jgarcia"],
    ["muller datenb", "jmueller"],
    // handles
    ["maria", "maria"],
    ["@maria", "maria"],
    ["MARIA", "maria"],
    ["@Ada_Lovelace", "ada_lovelace"],
    ["lovelace", "ada_lovelace"],
    ["mk_77", "mk_77"],
    // compounds
    ["obrien", "sobrien"],
    ["O'Brien", "sobrien"],
    ["o’brien", "sobrien"],
    ["brien", "sobrien"],
    ["jeanluc", "jlp"],
    ["jean luc", "jlp"],
    // scripts
    ["мария", "mpopov"],
    ["попов", "mpopov"],
    ["田中", "tanaka"],
    ["太郎", "tanaka"],
    ["東京", "tanaka"],
    ["احمد", "ahmad"],
    ["أحمد", "ahmad"],
    ["김민", "minsu"],
    ["マリ", "suzuki_m"],
    ["🎉", "party"],
    // tags and bio
    ["honey-bees", "jgarcia"],
    ["honey", "jgarcia"],
    ["databases", "jmueller"],
    ["analytical engine", "ada_lovelace"],
  ])("%s finds %s first", async (q, handle) => {
    expect((await hits(shared, q))[0]).toBe(handle);
  });

  it("completes a beginning, and ranks names above bios", async () => {
    expect(new Set((await hits(shared, "mar")).slice(0, 3))).toEqual(new Set(["maria", "mk_77", "mlopez"]));
    const garcia = await hits(shared, "garcia");
    expect(garcia.indexOf("jgarcia")).toBeLessThan(garcia.indexOf("bread_fan"));
  });

  it("does not take ideographs apart, nor a number for another", async () => {
    expect(await hits(shared, "田中")).toEqual(["tanaka"]);
    expect(new Set(await hits(shared, "田"))).toEqual(new Set(["tanaka", "nakata"]));
    expect(await hits(shared, "mk_78")).not.toContain("mk_77");
    expect(await hits(shared, "qqqqqqq")).toEqual([]);
    expect(await hits(shared, "jose qqqqqqq")).toEqual([]);
    expect(await hits(shared, "!!!")).toEqual([]);
  });

  it("filters, counts and facets the whole result", async () => {
    const { body } = await shared.service.get("/v1/search?country=JP&limit=1");
    expect(body.total).toBe(3);
    expect(body.hits).toHaveLength(1);
    expect(body.facets.country).toEqual([{ value: "JP", count: 3 }]);
    const tagged = await shared.service.get("/v1/search?tag=bread&tag=honey-bees");
    expect(tagged.body.hits.map((h: Person) => h.handle)).toEqual(["jgarcia"]);
    expect(tagged.body.facets.tag).toContainEqual({ value: "bread", count: 1 });
    expect((await shared.service.get("/v1/search?q=jose&country=DE")).body).toMatchObject({ total: 0, hits: [] });
  });

  it("answers with the whole hit, highlighted and escaped", async () => {
    const { body } = await shared.service.get("/v1/search?q=gracia");
    const [jose] = people;
    expect(body.hits[0]).toEqual({
      id: jose!.id,
      handle: "jgarcia",
      displayName: "José García",
      bio: "Bäcker & Imker in Sevilla",
      country: "ES",
      tags: ["bread", "honey-bees"],
      score: expect.any(Number),
      highlight: { displayName: ["José <em>García</em>"] },
    });
    const ada = (await shared.service.get("/v1/search?q=programs")).body.hits[0];
    expect(ada.highlight).toEqual({ bio: ["&lt;script&gt;alert(1)&lt;/script&gt; wrote <em>programs</em>"] });
    expect((await shared.service.get("/v1/search?q=honey")).body.hits[0].highlight).toEqual({
      tags: ["<em>honey</em>-bees"],
    });
  });

  it("browses the newest first", async () => {
    const { body } = await shared.service.get("/v1/search?limit=100");
    const ids = body.hits.map((h: Person) => h.id);
    expect(ids).toEqual([...ids].sort().reverse());
    expect(body.total).toBe(people.length);
  });

  it("suggests while one types", async () => {
    const suggest = async (q: string) =>
      (await shared.service.get(`/v1/search/suggest?q=${encodeURIComponent(q)}`)).body;
    expect((await suggest("jos")).suggestions[0]).toEqual({
      id: people[0]!.id,
      handle: "jgarcia",
      displayName: "José García",
    });
    expect((await suggest("@ada")).suggestions[0].handle).toBe("ada_lovelace");
    expect((await suggest("jose g")).suggestions[0].handle).toBe("jgarcia");
    expect((await suggest("bread")).suggestions.map((s: Person) => s.handle)).toEqual(["bread_fan"]);
  });

  it.each([
    "AND OR NOT",
    "name:* OR deleted:true",
    '"unbalanced',
    "(((",
    "[* TO *]",
    "/.*/",
    "a~2 b^9",
    "\\",
    "*",
    "?",
    '{"match_all":{}}',
    "$" + "{jndi:ldap://x}",
    "' OR 1=1 --",
    "\u{1F600}\u200d\u{1F525}",
    "x".repeat(200),
    // One character of fifteen letters: a word of three thousand.
    "\u{FDFA}".repeat(200),
    "ab ".repeat(66),
    "a'b".repeat(50),
    "漢".repeat(200),
    "e\u0301".repeat(100),
  ])("takes %j as plain text", async (q) => {
    const { status, body } = await shared.service.get(`/v1/search?q=${encodeURIComponent(q)}`);
    expect(status, JSON.stringify(body)).toBe(200);
    expect(body.total).toBeLessThan(people.length);
  });

  it.each([
    ["limit=0", "limit"],
    ["limit=101", "limit"],
    ["limit=1e3", "limit"],
    ["limit=-1", "limit"],
    ["country=XX", "country"],
    ["country=de", "country"],
    ["tag=Not%20a%20tag", "tag"],
    [`q=${"x".repeat(201)}`, "q"],
    ["q=%00", "q"],
    ["q=a&q=b", "q"],
    ["cursor=nonsense", "cursor"],
    ["cursor=", "cursor"],
    [`cursor=${"x".repeat(9000)}`, "cursor"],
  ])("refuses %.40s naming %s", async (query, path) => {
    const { status, body } = await shared.service.get(`/v1/search?${query}`);
    expect(status, JSON.stringify(body)).toBe(400);
    expect(body.errors[0].path).toMatch(new RegExp(`^${path}`));
  });
}
