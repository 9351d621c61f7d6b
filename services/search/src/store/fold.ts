import { LETTERS } from "./letters.ts";

/**
 * Words, folded: the one place that decides what is the same word. The projector indexes folded words, the query is folded the same way, and
 * the highlighter finds them again in the original text. Done here and not by an analyzer, so that the index needs nothing but the
 * `whitespace` analyzer, which every distribution of the engine has.
 */

/**
 * Accents and vowel points: marks of Latin, Greek and Cyrillic, Hebrew, Arabic, Syriac and N'Ko. Not every mark: the vowel signs of Indic scripts and the
 * voicing of kana make another word.
 */
const ACCENTS =
  // pattern: one character of a set; recheck does not know these sets yet.
  /[\u0300-\u036f\u0483-\u0487\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f[\p{Mn}&&[\p{scx=Hebr}\p{scx=Arab}\p{scx=Syrc}\p{scx=Nkoo}]]\u0640]/gv;
/** The dot of a borrowed sound (nukta), which is often left out, and the mark of a double consonant in Gurmukhi. */
const NUKTAS =
  /[\u093c\u09bc\u0a3c\u0a71\u0abc\u0b3c\u0c3c\u0cbc\u{110ba}\u{11173}\u{111ca}\u{11236}\u{112e9}\u{1133b}\u{1133c}\u{11446}\u{114c3}\u{115c0}\u{116b7}\u{1183a}\u{11943}]/gu;
/** What is not seen: joiners, direction marks, variation selectors, fillers. Not the tags that make one flag of another. */
// pattern: one character of a set; recheck does not know these sets yet.
const UNSEEN = /[\p{Default_Ignorable_Code_Point}--[\u{e0020}-\u{e007f}]]/gv;
const NOT_A_WORD = /[^\p{L}\p{N}\p{M}\p{Extended_Pictographic}\p{Regional_Indicator}\u{e0020}-\u{e007f}]/gu;
const DECIMAL = /\p{Nd}/gu;
const IS_DECIMAL = /^\p{Nd}$/u;
const ANY = /./gsu;

/** The scripts of India whose blocks are laid out alike; Malayalam writes its nasals in one way. */
const NASALS = [0x900, 0x980, 0xa00, 0xa80, 0xb00, 0xc00, 0xc80].map((block) => {
  const at = (offset: number) => String.fromCodePoint(block + offset);
  const before = (from: number, to: number) => `${at(0x4d)}(?=[${at(from)}-${at(to)}])`;
  // A nasal that sounds as the next consonant does is written as a letter or as a sign: हिन्दी, हिंदी.
  const letter = `[${at(0x19)}${at(0x1e)}${at(0x23)}${at(0x28)}]${before(0x15, 0x39)}|${at(0x2e)}${before(0x2a, 0x2d)}`;
  // pattern: two letters at most.
  return { written: new RegExp(`${letter}|[${at(1)}${at(2)}]`, "gu"), plain: at(0x28) };
});
const INDIC = /[\u0900-\u0cff]/u;

/** A decimal digit of any script. In Unicode the ten digits of a script follow each other, zero first. */
function digitOf(letter: string): string {
  const code = letter.codePointAt(0)!;
  let value = 0;
  while (IS_DECIMAL.test(String.fromCodePoint(code - value - 1))) value++;
  return String(value % 10);
}

/**
 * Folds one word: compatibility forms, case, accents, what is not seen, decimal digits of every script, and letters that do not decompose (letters.ts).
 */
export function foldWord(word: string): string {
  let folded = word
    .normalize("NFKD")
    .toLowerCase()
    .normalize("NFKD")
    .replace(UNSEEN, "")
    .replace(ACCENTS, "")
    .replace(NUKTAS, "")
    .replace(ANY, (letter) => LETTERS.get(letter) ?? letter)
    .replace(DECIMAL, digitOf);
  if (INDIC.test(folded)) {
    for (const { written, plain } of NASALS) folded = folded.replace(written, plain);
  }
  return folded.normalize("NFC").replace(NOT_A_WORD, "");
}

/** A word where it stands in the original text: UTF-16 offsets, end exclusive. */
export interface Word {
  text: string;
  start: number;
  end: number;
  /** One sign of a script that puts no spaces, or a syllable of Hangul, where a given name follows the family's without one: a word by itself. */
  sign: boolean;
}

/** Ideographs, kana, and the scripts of South-East Asia whose words only a dictionary tells apart. */
const UNSPACED =
  "\\p{sc=Han}\\p{sc=Hira}\\p{sc=Kana}\\p{sc=Bopo}\\p{sc=Yiii}\\p{sc=Tang}\\p{sc=Nshu}\\p{sc=Thai}\\p{sc=Laoo}\\p{sc=Khmr}\\p{sc=Mymr}" +
  "\\p{sc=Tale}\\p{sc=Talu}\\p{sc=Lana}\\p{sc=Tavt}\\p{sc=Ahom}\\p{sc=Java}\\p{sc=Bali}\\u30fc\\uff70\\uff9e\\uff9f";
const SIGN = `[[${UNSPACED}]&&[\\p{L}\\p{Nl}]][\\p{M}\\u0e33\\u0eb3\\uff9e\\uff9f]*`;
const JAMO = "\\u1160-\\u11ff\\ud7b0-\\ud7fb";
const SYLLABLE = `[\\uac00-\\ud7a3\\u1100-\\u115e\\ua960-\\ua97c][${JAMO}]*|[${JAMO}\\u3131-\\u3163\\u3165-\\u318e\\uffa1-\\uffdc]`;
/** Letters of other scripts, and the digits of all. */
const ELSEWHERE = `[\\p{DI}\\p{sc=Hang}[[${UNSPACED}]&&[\\p{L}\\p{Nl}]]]`;
const LETTER = `[[\\p{L}\\p{N}\\p{M}]--${ELSEWHERE}]`;
const FIRST = `[[\\p{L}\\p{N}]--${ELSEWHERE}]`;
/** Inside a word; but the non-joiner of Arabic script stands where elsewhere a hyphen does. */
const HIDDEN = "(?:[\\p{DI}--\\u200c]|(?<![\\p{sc=Arab}\\p{sc=Syrc}\\u064b-\\u065f])\\u200c)";
const EMOJI = "\\p{Regional_Indicator}{1,2}|\\p{Extended_Pictographic}[\\u{e0020}-\\u{e007f}]*";
// pattern: recheck does not know these sets yet. Whatever repeats shares no character with what stands behind it, so a text is read in one way only.
const PIECE = new RegExp(`(?<sign>${SIGN})|(?<syllable>${SYLLABLE})|${FIRST}(?:${HIDDEN}*${LETTER})*|${EMOJI}`, "gv");

/** The words of a text in order, folded, with their places. */
function wordsOf(text: string): Word[] {
  const words: Word[] = [];
  for (const match of text.matchAll(PIECE)) {
    const { sign, syllable } = match.groups ?? {};
    const folded = syllable === undefined ? foldWord(match[0]) : keysOf(syllable);
    if (folded === "") continue;
    const start = match.index;
    words.push({
      text: folded,
      start,
      end: start + match[0].length,
      sign: sign !== undefined || syllable !== undefined,
    });
  }
  return words;
}

const INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ";
const VOWELS = "ㅏ ㅐ ㅑ ㅒ ㅓ ㅔ ㅕ ㅖ ㅗ ㅗㅏ ㅗㅐ ㅗㅣ ㅛ ㅜ ㅜㅓ ㅜㅔ ㅜㅣ ㅠ ㅡ ㅡㅣ ㅣ".split(" ");
const FINALS =
  "ㄱ ㄲ ㄱㅅ ㄴ ㄴㅈ ㄴㅎ ㄷ ㄹ ㄹㄱ ㄹㅁ ㄹㅂ ㄹㅅ ㄹㅌ ㄹㅍ ㄹㅎ ㅁ ㅂ ㅂㅅ ㅅ ㅆ ㅇ ㅈ ㅊ ㅋ ㅌ ㅍ ㅎ".split(" ");

/** A syllable of Hangul as the keys one presses for it, so that one that is not finished is the beginning of the one it becomes. */
function keysOf(syllable: string): string {
  let keys = "";
  for (const jamo of syllable.normalize("NFKD")) {
    const code = jamo.codePointAt(0)!;
    keys += INITIALS[code - 0x1100] ?? VOWELS[code - 0x1161] ?? FINALS[code - 0x11a8] ?? jamo;
  }
  return keys.replace(UNSEEN, "");
}

/** A syllable whose last consonant may become the first of the next one: 김 on the way to 기미. */
const MOVABLE = /^([ㄱ-ㅎ][ㅏ-ㅣ]+[ㄱ-ㅎ]?)([ㄱ-ㅎ])$/u;

/** The keys of a syllable without its last consonant, and that consonant; undefined if it has none. */
export function movable(keys: string): [string, string] | undefined {
  const [, stays, moves] = MOVABLE.exec(keys) ?? [];
  return stays && moves ? [stays, moves] : undefined;
}

const CONNECTOR = /^(?:[\p{Pd}\p{Pc}'’‘`´.·․‧･・＇．\u05f3\u05f4"՚\u200c\u0f0b])?$/u;
// pattern: one character of a set; recheck does not know these sets yet.
const HIDDEN_BETWEEN = /[\p{DI}--\u200c]/gv;

/** Words that belong together: `O'Brien`, `Jean-Luc`, `ada_lovelace`, or a run of signs. */
export interface Group {
  words: Word[];
  kind: "single" | "compound" | "run";
  /** The words run together. */
  joined: string;
}

/** Groups the words of a text: compounds by one connecting character, signs by touching each other. */
export function groupsOf(text: string): Group[] {
  const groups: Group[] = [];
  for (const word of wordsOf(text)) {
    const group = groups.at(-1);
    const before = group?.words.at(-1);
    if (group && before && before.sign === word.sign) {
      const between = text.slice(before.end, word.start).replace(HIDDEN_BETWEEN, "");
      if (word.sign ? between === "" : between !== "" && CONNECTOR.test(between)) {
        group.words.push(word);
        group.kind = word.sign ? "run" : "compound";
        group.joined += word.text;
        continue;
      }
    }
    groups.push({ words: [word], kind: word.sign ? "run" : "single", joined: word.text });
  }
  return groups;
}

/** More words than this in a row are not written together by anybody. */
const MOST_JOINED = 8;
const LONGEST_RUN = 32;
/** A word of a run that is worth a place of its own: shorter ones are not mistyped so that one would know. */
const SHORTEST_IN_RUN = 4;
const segmenter = new Intl.Segmenter("en", { granularity: "word" });

/**
 * What stands in a text beside its single words: its compounds run together (`obrien`, `jeanluc`), its runs and the longer words in them, and, in a name, two and
 * three neighbours run together (`desouza`). With their places.
 */
export function wholesOf(text: string, groups: Group[], { isName }: { isName: boolean }): Word[] {
  const wholes: Word[] = [];
  const whole = (joined: string, from: Group, to: Group, sign: boolean): void => {
    wholes.push({ text: joined, start: from.words[0]!.start, end: to.words.at(-1)!.end, sign });
  };
  for (const [i, group] of groups.entries()) {
    if (group.kind === "compound" && group.words.length <= MOST_JOINED) whole(group.joined, group, group, false);
    if (group.kind === "run" && group.words.length > 1) {
      if (group.words.length <= LONGEST_RUN) whole(group.joined, group, group, true);
      wholes.push(...wordsInRun(text, group));
    }
    if (!isName || group.kind === "run") continue;
    let joined = group.joined;
    for (const next of groups.slice(i + 1, i + 3)) {
      if (next.kind === "run") break;
      joined += next.joined;
      whole(joined, group, next, false);
    }
  }
  return wholes;
}

/** The words that a dictionary finds in a run. */
function wordsInRun(text: string, { words }: Group): Word[] {
  if (words.length <= SHORTEST_IN_RUN) return [];
  const from = words[0]!.start;
  const found: Word[] = [];
  for (const { index, segment } of segmenter.segment(text.slice(from, words.at(-1)!.end))) {
    const start = from + index;
    const end = start + segment.length;
    const inside = words.filter((word) => word.start >= start && word.end <= end);
    if (inside.length < SHORTEST_IN_RUN || inside.length === words.length) continue;
    found.push({ text: inside.map((word) => word.text).join(""), start, end, sign: true });
  }
  return found;
}

/** Between the single words of a text and what is made of them: a phrase of signs must not go on from one to the other. No query has it. */
const BARRIER = "|";

/** What is indexed of a text: its folded words with spaces between, then what is made of them. */
export function indexedText(text: string, { isName = false } = {}): string {
  const groups = groupsOf(text);
  const words = groups.flatMap((g) => g.words.map((w) => w.text));
  const wholes = [...new Set(wholesOf(text, groups, { isName }).map((w) => w.text))];
  const barrier = wholes.length > 0 && groups.some(({ kind }) => kind === "run") ? [BARRIER] : [];
  return [...words, ...barrier, ...wholes].join(" ");
}

const DIGIT = /\p{N}/u;
const IDEOGRAPH = /[\p{sc=Han}\p{sc=Tang}\p{sc=Nshu}\p{sc=Yiii}\p{Extended_Pictographic}\p{Regional_Indicator}]/u;
const LONGEST_MISTYPED = 64;

/**
 * How many typing errors (insertion, deletion, substitution, neighbours swapped) a word may have, its first letter being right: none below three
 * letters, one up to five, two beyond. A word with a digit is a name that was given, not one that was mistyped: one digit off is somebody else. Nobody
 * mistypes a word of hundreds of letters, and the engine refuses to look for one.
 */
export function allowedEdits(word: string): 0 | 1 | 2 {
  if (DIGIT.test(word) || IDEOGRAPH.test(word)) return 0;
  const length = [...word].length;
  if (length > LONGEST_MISTYPED) return 0;
  return length < 3 ? 0 : length < 6 ? 1 : 2;
}

/** The same for signs in a row, each of which says more than a letter does; none for ideographs: each of them is a word, and another one is another. */
export function allowedEditsOfRun(signs: Word[]): 0 | 1 | 2 {
  if (signs.length < 4 || signs.some(({ text }) => IDEOGRAPH.test(text))) return 0;
  const length = signs.reduce((sum, { text }) => sum + text.length, 0);
  return length > LONGEST_MISTYPED ? 0 : signs.length < 8 ? 1 : 2;
}

/** Whether a word may be what somebody meant who typed `typed`, and is not that itself: the first letter is right, and at most `edits` typing errors. */
export function isMistyped(word: string, typed: string, edits: number): boolean {
  return word !== typed && word.codePointAt(0) === typed.codePointAt(0) && withinEdits(word, typed, edits);
}

/** What the dictionary of the index holds of some texts as they are indexed: the words that one could mistype. */
export function dictionaryOf(...indexed: string[]): string[] {
  const words = indexed.flatMap((text) => text.split(" "));
  return [...new Set(words)].filter((word) => {
    const length = [...word].length;
    return length > 1 && length <= LONGEST_MISTYPED + 2 && !IDEOGRAPH.test(word);
  });
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
