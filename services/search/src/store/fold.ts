/**
 * Words, folded: the one place that decides what is the same word. The projector indexes folded words, the query is folded the same way, and
 * the highlighter finds them again in the original text. Done here and not by an analyzer, so that the index needs nothing but the
 * `whitespace` analyzer, which every distribution of the engine has.
 */

/** Letters that Unicode does not decompose into a base letter and a mark, but that are typed without their stroke, hook or ligature. */
const LETTERS: Record<string, string> = {
  ß: "ss",
  æ: "ae",
  œ: "oe",
  ø: "o",
  đ: "d",
  ð: "d",
  þ: "th",
  ł: "l",
  ħ: "h",
  ŧ: "t",
  ŋ: "n",
  ı: "i",
  ȷ: "j",
  ĸ: "k",
  ƒ: "f",
  ɓ: "b",
  ɗ: "d",
  ɖ: "d",
  ǝ: "e",
  ə: "e",
  ɛ: "e",
  ɣ: "g",
  ɨ: "i",
  ɔ: "o",
  ƙ: "k",
  ƴ: "y",
  // final sigma
  ς: "σ",
  // Arabic: variants of one letter that people type for each other, and the stretching stroke
  ى: "ي",
  ی: "ي",
  ک: "ك",
  ة: "ه",
  ٱ: "ا",
  ـ: "",
  // apostrophes that count as letters
  ʼ: "",
  ʻ: "",
  ʹ: "",
  ʾ: "",
  ʿ: "",
};
const LETTER_WITHOUT_MARK = new RegExp(`[${Object.keys(LETTERS).join("")}]`, "gu");

/**
 * Accents and vowel points: marks of Latin, Greek and Cyrillic, Hebrew and Arabic, and variation selectors. Not every mark: the vowel signs of
 * Indic scripts and the voicing of kana make another word.
 */
const ACCENTS = new RegExp(
  "[\\u0300-\\u036f\\u0483-\\u0487\\u0591-\\u05bd\\u05bf\\u05c1\\u05c2\\u05c4\\u05c5\\u05c7\\u0610-\\u061a\\u064b-\\u065f\\u0670" +
    "\\u06d6-\\u06dc\\u06df-\\u06e4\\u1ab0-\\u1aff\\u1dc0-\\u1dff\\u20d0-\\u20ff\\ufe00-\\ufe0f\\ufe20-\\ufe2f]",
  "gu",
);
const NOT_A_WORD = /[^\p{L}\p{N}\p{M}\p{Extended_Pictographic}]/gu;

/** Folds one word: compatibility forms, case, accents, and letters that do not decompose. */
export function foldWord(word: string): string {
  return word
    .normalize("NFKD")
    .toLowerCase()
    .normalize("NFKD")
    .replace(ACCENTS, "")
    .replace(LETTER_WITHOUT_MARK, (letter) => LETTERS[letter] ?? letter)
    .normalize("NFC")
    .replace(NOT_A_WORD, "");
}

/** A word where it stands in the original text: UTF-16 offsets, end exclusive. */
export interface Word {
  text: string;
  start: number;
  end: number;
  /** One ideograph or hiragana: a word by itself, since these scripts put no spaces. */
  ideograph: boolean;
}

const PIECE =
  /(?<ideograph>[\p{sc=Han}\p{sc=Hira}]\p{M}*)|[\p{sc=Kana}\u30fc\uff70][\p{sc=Kana}\u30fc\uff70\uff9e\uff9f\p{M}]*|[[\p{L}\p{N}]--[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}]][[\p{L}\p{N}\p{M}\u00ad\u200b-\u200d\u2060]--[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}]]*|\p{Extended_Pictographic}/gv;

/** The words of a text in order, folded, with their places. */
export function wordsOf(text: string): Word[] {
  const words: Word[] = [];
  for (const match of text.matchAll(PIECE)) {
    const folded = foldWord(match[0]);
    if (folded === "") continue;
    const ideograph = match.groups?.ideograph !== undefined;
    words.push({ text: folded, start: match.index, end: match.index + match[0].length, ideograph });
  }
  return words;
}

const CONNECTOR = /^['’‘`´.\-‐‑_·]$/u;

/** Words that belong together: `O'Brien`, `Jean-Luc`, `ada_lovelace`, or a run of ideographs. */
export interface Group {
  words: Word[];
  kind: "single" | "compound" | "ideographs";
  /** The words run together. */
  joined: string;
}

/** Groups the words of a text: compounds by one connecting character, ideographs by touching each other. */
export function groupsOf(text: string): Group[] {
  const groups: Group[] = [];
  for (const word of wordsOf(text)) {
    const group = groups.at(-1);
    const before = group?.words.at(-1);
    if (group && before && before.ideograph === word.ideograph) {
      const between = text.slice(before.end, word.start);
      if (word.ideograph ? between === "" : CONNECTOR.test(between)) {
        group.words.push(word);
        group.kind = word.ideograph ? "ideographs" : "compound";
        group.joined += word.text;
        continue;
      }
    }
    groups.push({ words: [word], kind: "single", joined: word.text });
  }
  return groups;
}

/** What is indexed of a text: its folded words with spaces between, then its compounds run together (`obrien`, `jeanluc`). */
export function indexedText(text: string): string {
  const groups = groupsOf(text);
  const words = groups.flatMap((g) => g.words.map((w) => w.text));
  const joined = groups.filter((g) => g.kind === "compound" && g.words.length <= 8).map((g) => g.joined);
  return [...words, ...joined].join(" ");
}

const DIGIT = /\p{N}/u;
const LONGEST_MISTYPED = 64;
const SYLLABLES = /[\p{sc=Hang}\p{sc=Kana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmr}\p{sc=Mymr}\p{Extended_Pictographic}]/u;

/**
 * How many typing errors (insertion, deletion, substitution, neighbours swapped) a word may have, its first letter being right: none below three
 * letters, one up to five, two beyond; fewer in scripts where a character is a syllable. A word with a digit is a name that was given, not one
 * that was mistyped: one digit off is somebody else. Nobody mistypes a word of hundreds of letters, and the engine refuses to look for one.
 */
export function allowedEdits(word: string): 0 | 1 | 2 {
  if (DIGIT.test(word)) return 0;
  const length = [...word].length;
  if (length > LONGEST_MISTYPED) return 0;
  if (SYLLABLES.test(word)) return length < 4 ? 0 : length < 8 ? 1 : 2;
  return length < 3 ? 0 : length < 6 ? 1 : 2;
}

/** True if `a` becomes `b` by at most `max` edits (optimal string alignment), as the engine's fuzzy query counts them. */
export function withinEdits(a: string, b: string, max: number): boolean {
  const s = [...a];
  const t = [...b];
  if (Math.abs(s.length - t.length) > max) return false;
  let before: number[] = [];
  let previous = Array.from({ length: t.length + 1 }, (_, j) => j);
  for (let i = 1; i <= s.length; i++) {
    const row = [i];
    for (let j = 1; j <= t.length; j++) {
      const same = s[i - 1] === t[j - 1];
      let cost = Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && s[i - 1] === t[j - 2] && s[i - 2] === t[j - 1]) cost = Math.min(cost, before[j - 2]! + 1);
      row.push(cost);
    }
    before = previous;
    previous = row;
  }
  return previous[t.length]! <= max;
}
