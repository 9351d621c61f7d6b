/** Letters that Unicode does not decompose into a base letter and a mark. */
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
  ı: "i",
  ĸ: "k",
  ŋ: "n",
  ɓ: "b",
  ɗ: "d",
  ƙ: "k",
};
const LETTER = new RegExp(`[${Object.keys(LETTERS).join("")}]`, "g");
/** Accents of Latin, Greek and Cyrillic; points of Hebrew and Arabic. The vowel signs of Indic scripts are letters in all but name and stay. */
const MARKS = /[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]/g;
const APOSTROPHES = /['’ʼ`´]/g;

/**
 * The form in which text is indexed and looked for: without case, accents and apostrophes. Done here and not by the engine, so that it is the same on every
 * distribution of it.
 */
export function fold(text: string): string {
  return text
    .normalize("NFKD")
    .replace(MARKS, "")
    .toLowerCase()
    .replace(LETTER, (letter) => LETTERS[letter] as string)
    .replace(APOSTROPHES, "")
    .normalize("NFC");
}

/** Words as the engine's standard tokenizer finds them, near enough: ideographs and kana singly, everything else in runs. */
const WORD = /[\p{Script=Han}\p{Script=Hiragana}]|[\p{L}\p{N}\p{M}_'’ʼ]+/gu;

/** The words of a query, folded; at most `limit`. */
export function wordsOf(text: string, limit: number): string[] {
  return (fold(text).match(/[\p{L}\p{N}\p{M}_]+/gu) ?? []).slice(0, limit);
}

const ESCAPES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => ESCAPES[c] as string);
}

/** The original text, HTML-escaped, with every word whose folded form is in `matched` within `<em>`. Undefined if there is none. */
export function highlight(original: string, matched: Set<string>): string | undefined {
  let out = "";
  let from = 0;
  let found = false;
  for (const { 0: word, index } of original.matchAll(WORD)) {
    if (!matched.has(fold(word))) continue;
    found = true;
    out += `${escapeHtml(original.slice(from, index))}<em>${escapeHtml(word)}</em>`;
    from = index + word.length;
  }
  return found ? (out + escapeHtml(original.slice(from))).replaceAll("</em><em>", "") : undefined;
}
