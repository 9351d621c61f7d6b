import { beforeAll, expect, it } from "vitest";
import { type Person, person, type Shared, seen } from "../world.ts";

/** By name and bio, what somebody might type who looks for this person. */
const FOUND: [name: string, bio: string, ...typed: string[]][] = [
  // scripts without spaces: a word from the middle, one that is not finished
  ["สมชาย ใจดี", "ชอบปีนเขา", "ปีนเขา", "ชอบปีน", "สมชา", "สมชายใจดี", "ใจดี"],
  ["น้ำฝน", "ห้อง ๔๕๖", "น้ำ", "456", "๔๕๖"],
  ["ສົມສັກ ວົງສາ", "ມັກປີນພູ", "ປີນພູ", "ສົມສັກ"],
  ["សុខ សុភាព", "ខ្ញុំចូលចិត្តភ្នំ", "ភ្នំ", "ចូលចិត្ត"],
  ["အောင်ဆန်း", "မြန်မာစာသင်သည်", "မြန်မာ", "စာသင်", "ဆန်း"],
  ["Zoe A", "フリープログラマー", "プログラマー", "プログラマ", "ぷろぐらまー", "ﾌﾟﾛｸﾞﾗﾏｰ", "プロクラマー"],
  ["山本さくら", "", "さくら", "サクラ", "山本"],
  ["王小明", "北京大学", "小明", "北京", "大学"],
  ["佐々木 希", "", "佐々木", "佐々木希"],
  ["葛󠄀城 ユキ", "", "葛城", "ユキ", "ゆき"],
  ["ㄅㄆㄇ", "", "ㄆㄇ"],
  ["ꆈꌠꉙ", "", "ꌠꉙ"],
  // Hangul: given names, syllables that are not finished, decomposed ones
  ["김철수", "", "철수", "김철", "김처", "김ㅊ", "김철수".normalize("NFD")],
  ["김민수", "", "김미", "민수", "민ㅅ", "김먼수 김민수".slice(4)],
  ["박기화", "", "기호", "박깋", "박기"],
  ["남궁 민", "서울 대학교에서", "대학교", "남궁민", "서우"],
  // Arabic script: variants, digits, joiners, points
  ["علی\u200cرضا احمدی", "", "علی رضا", "علیرضا", "علي رضا", "احمدي"],
  ["القاعة ١٢٣", "", "123", "القاعه", "١٢٣", "۱۲۳"],
  ["مُحَمَّد الإدريسي", "", "محمد", "الادريسي", "مـحـمـد"],
  ["کریم ہاشمی", "", "كريم", "هاشمي"],
  ["مؤنس", "", "مونس"],
  ["אַבְרָהָם בן־דוד", "", "אברהם", "בן דוד", "בנדוד", "אברהמ"],
  ["ܝܘܚܢܢ", "", "ܝܘܚܢܢ"],
  // Scripts of India: nukta, nasals, letters without their vowel, joiners, digits
  ["फ़िरोज़ खान", "", "फिरोज खान", "फ़िरोज़", "फिरो"],
  ["हिन्दी लेखक", "कक्ष १२७", "हिंदी", "127", "हिन"],
  ["रामँ", "", "रामं"],
  ["রড়েন ৎসাঙ", "", "রডেন", "ত্\u200dসাঙ"],
  ["രാമൻ നായർ", "", "രാമന്\u200d നായര്\u200d", "രാമൻ"],
  ["ਸਿੰਘ", "", "ਸਿਂਘ"],
  ["தமிழ் செல்வன்", "அறை ௧௨௯", "செல்வன்", "129"],
  ["ක්\u200dරිස්", "", "ක්රිස්"],
  // Letters that do not decompose
  ["Ґалина Їжак", "", "галина", "ижак"],
  ["Әсел Құдайберген", "", "асел", "кудайберген"],
  ["Ærøskøbing", "", "aeroskobing"],
  ["Łukasz Wąż", "", "lukasz", "waz"],
  ["İbrahim Işık", "", "ibrahim", "isik", "ışık"],
  ["Straße", "", "strasse", "STRASSE", "ſtraſze".replace("z", "")],
  ["Əliyev Ŋjao", "", "eliyev", "njao"],
  ["Ɓala Ƙofa Ɗan", "", "bala", "kofa dan"],
  ["Œuvre", "", "oeuvre"],
  ["Νικόλαος", "", "νικολαοσ", "ΝΙΚΌΛΑΟΣ"],
  ["Ñandú Çelik", "", "nandu", "celik"],
  ["Nguyễn Đức", "", "nguyen duc"],
  ["𝓜𝓪𝓻𝓰𝓸𝓽", "", "margot"],
  ["ꜱᴍᴀʟʟᴄᴀᴘꜱ", "", "smallcaps"],
  ["Ｗｉｄｅ", "", "wide"],
  ["Զվարթ", "", "զվարթ", "ԶՎԱՐԹ"],
  ["ᲒᲘᲝᲠᲒᲘ", "", "გიორგი"],
  ["ሐይለ ሥላሴ", "", "ሀይለ ስላሴ"],
  ["བཀྲ་ཤིས", "", "བཀྲ་ཤིས", "བཀྲ ཤིས"],
  // Words run together, and taken apart
  ["De Souza", "", "desouza", "de souza", "DeSouz"],
  ["Maria De La Cruz", "", "delacruz", "mariade"],
  ["Anna MacDonald", "", "mac donald", "macdonald"],
  ["Siobhan O'Brien", "", "obrien", "o brien", "o’brien"],
  ["Jean-Luc Bontemps", "", "jeanluc", "jean luc", "jean–luc", "bon temps"],
  ["Soft\u00adhyphen Zero\u200bwidth", "", "softhyphen", "zerowidth"],
  // Flags and emoji
  ["Hans 🇩🇪", "", "🇩🇪", "hans 🇩🇪"],
  ["Rugby 🏴󠁧󠁢󠁳󠁣󠁴󠁿", "", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"],
  ["Wave 👋🏽", "", "👋", "👋🏿"],
  ["Heart ❤️", "", "❤", "❤️"],
];

/** Whoever types this must not be shown them. */
const NOT_FOUND: [name: string, typed: string][] = [
  ["Hans 🇩🇪", "🇫🇷"],
  ["Rugby 🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🏴󠁧󠁢󠁷󠁬󠁳󠁿"],
  ["김철수", "철민"],
  ["김철수", "수철"],
  ["김민수", "긴민수"],
  ["王小明", "明小"],
  ["王小明", "王小朋"],
  ["สมชาย ใจดี", "ชายสม"],
  ["القاعة ١٢٣", "124"],
  ["山本さくら", "さくろ"],
  ["Łukasz Wąż", "qaz"],
];

export function scripts(shared: Shared) {
  const people = FOUND.map(([displayName, bio]) => person({ displayName, bio, tags: ["scripts"] }));
  const find = async (q: string): Promise<{ displayName: string; highlight: Record<string, string[]> }[]> => {
    const answer = await shared.service.get(`/v1/search?tag=scripts&limit=100&q=${encodeURIComponent(q)}`);
    expect(answer.status, JSON.stringify(answer.body)).toBe(200);
    return answer.body.hits;
  };

  beforeAll(async () => {
    await shared.world.publish(...people);
    await seen(shared.service, ...people);
  });

  it.each(FOUND)("finds %s %s", async (name, _bio, ...typed) => {
    for (const q of typed) {
      const hit = (await find(q)).find(({ displayName }) => displayName === name);
      expect(hit, q).toBeDefined();
      // What was found is marked, in the text as it was written.
      const marked = Object.values(hit!.highlight).flat();
      expect(marked.join(), q).toContain("<em>");
    }
  });

  it.each(NOT_FOUND)("does not take %s for %s", async (name, q) => {
    expect((await find(q)).map(({ displayName }) => displayName)).not.toContain(name);
  });

  it("suggests in every script while one types", async () => {
    for (const [typed, name] of [
      ["김미", "김민수"],
      ["สมช", "สมชาย ใจดี"],
      ["desou", "De Souza"],
      ["علير", "علی\u200cرضا احمدی"],
      ["さく", "山本さくら"],
    ]) {
      const answer = await shared.service.get(`/v1/search/suggest?limit=20&q=${encodeURIComponent(typed!)}`);
      expect(
        answer.body.suggestions.map((one: Person) => one.displayName),
        typed,
      ).toContain(name);
    }
  });
}
