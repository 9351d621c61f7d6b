import { describe, expect, it } from "vitest";
import { allowedEdits, foldWord, groupsOf, indexedText, withinEdits } from "../src/store/fold.ts";
import { highlightText } from "../src/store/highlight.ts";
import { parseQuery } from "../src/store/query.ts";

describe("folding", () => {
  it.each([
    ["José", "jose"],
    ["MÜLLER", "muller"],
    ["Straße", "strasse"],
    ["STRASSE", "strasse"],
    ["Łódź", "lodz"],
    ["Đorđe", "dorde"],
    ["Søren", "soren"],
    ["Þórður", "thordur"],
    ["Æsir", "aesir"],
    ["Işık", "isik"],
    ["İSTANBUL", "istanbul"],
    ["ﬁnn", "finn"],
    ["Ｆｕｌｌ", "full"],
    ["Ёлка", "елка"],
    ["Νίκος", "νικοσ"],
    ["أحمد", "احمد"],
    ["مُحَمَّد", "محمد"],
    ["שָׁלוֹם", "שלומ"],
    ["が", "が"],
    ["김민수", "김민수"],
    ["मोहन", "मोहन"],
    ["Hawaiʻi", "hawaii"],
  ])("%s is %s", (word, folded) => {
    expect(foldWord(word)).toBe(folded);
    expect(foldWord(word.normalize("NFD"))).toBe(folded);
    expect(foldWord(folded)).toBe(folded);
  });

  it("indexes the words of a compound, and the compound run together", () => {
    expect(indexedText("Seán O'Brien-Smith")).toBe("sean o brien smith obriensmith");
    expect(indexedText("ada_lovelace")).toBe("ada lovelace adalovelace");
    expect(indexedText("De Souza", { isName: true })).toBe("de souza desouza");
    expect(indexedText("田中 太郎 さん")).toBe("田 中 太 郎 さ ん | 田中 太郎 さん");
    expect(groupsOf("田中太郎")[0]).toMatchObject({ kind: "run", joined: "田中太郎" });
    expect(indexedText("!!! --- ???")).toBe("");
  });

  it("forgives as the engine does", () => {
    expect([allowedEdits("ab"), allowedEdits("abc"), allowedEdits("abcdef"), allowedEdits("a1b2c3d4")]).toEqual([
      0, 1, 2, 0,
    ]);
    expect(withinEdits("garcia", "gracia", 1)).toBe(true);
    expect(withinEdits("garcia", "garca", 1)).toBe(true);
    expect(withinEdits("garcia", "garxya", 1)).toBe(false);
    expect(withinEdits("jose", "joseph", 1)).toBe(false);
  });
});

describe("highlighting", () => {
  const of = (text: string, q: string) => highlightText(text, parseQuery(q));
  it("marks the original words and escapes everything else", () => {
    expect(of("José García", "jose")).toBe("<em>José</em> García");
    expect(of("José García", "gracia")).toBe("José <em>García</em>");
    expect(of("Maria & <b>Mark</b>", "mar")).toBe("<em>Maria</em> &amp; &lt;b&gt;<em>Mark</em>&lt;/b&gt;");
    expect(of('<script>alert("x")</script>', "alert")).toBe(
      "&lt;script&gt;<em>alert</em>(&quot;x&quot;)&lt;/script&gt;",
    );
    expect(of("Seán O'Brien", "obrien")).toBe("Seán <em>O&#39;Brien</em>");
    expect(of("山田中太郎", "田中")).toBe("山<em>田中</em>太郎");
    expect(of("Nobody", "xyz")).toBeUndefined();
    expect(of("Nobody", "")).toBeUndefined();
  });
});
