import type { FieldError } from "./problem.ts";

/** How deep arrays and objects may stand in each other. No body of ours has more than six. */
export const deepestJson = 64;

/** Up to so many keys are compared one by one; more go into a set. */
const FEW_KEYS = 12;
/** A whole number of so many characters is held exactly, whatever its digits are. */
const SHORT_NUMBER = 15;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** An array or object that is open at the moment. */
interface Level {
  object: boolean;
  /** In an object: the next string is a key. */
  atKey: boolean;
  key: string;
  index: number;
  keys: string[];
  /** Of an object with many keys. */
  seen: Set<string> | undefined;
}

/**
 * What of a JSON text `JSON.parse` would change without a word, as the first field it happens to; undefined if nothing. That is what RFC 7493 (I-JSON) keeps
 * out of messages: numbers that are larger than a double holds exactly (beyond ±(2^53 - 1)) or so small that it holds 0 instead, a key that is given twice in
 * one object, text that is no Unicode (lone surrogates). A decimal fraction is the double next to it, as everywhere. Nesting beyond `deepestJson` is
 * refused too, so that nothing has to walk down there. One pass, linear in the text; text that is no JSON is left for `JSON.parse` to refuse.
 */
export function ijsonFlaw(text: string): FieldError | undefined {
  const levels: Level[] = [];
  let depth = 0;
  let level: Level | undefined;
  const flaw = (message: string): FieldError => {
    const path = levels.slice(0, depth).map((at) => (at.object ? at.key : String(at.index)));
    return { path: path.join(".").toWellFormed().slice(0, 200) || "body", message };
  };

  for (let i = 0; i < text.length; ) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) {
      const start = i++;
      let escaped = false;
      for (; i < text.length; i++) {
        const d = text.charCodeAt(i);
        if (d === QUOTE) break;
        if (d === BACKSLASH) {
          escaped = true;
          i++;
        }
      }
      i++;
      const isKey = level?.object === true && level.atKey;
      if (!isKey && !escaped) continue;
      const string = escaped ? unescaped(text.slice(start, i)) : text.slice(start + 1, i - 1);
      if (string === undefined) return undefined;
      if (isKey) (level as Level).key = string;
      if (escaped && !string.isWellFormed()) return flaw("must be well-formed Unicode");
      if (isKey && isRepeated(level as Level, string)) return flaw("is given twice");
    } else if (c === 0x2d || (c >= 0x30 && c <= 0x39)) {
      const start = i++;
      let plain = true;
      for (; i < text.length; i++) {
        const d = text.charCodeAt(i);
        if (d >= 0x30 && d <= 0x39) continue;
        if (d === 0x65 || d === 0x45) plain = false;
        else if (d !== 0x2e && d !== 0x2b && d !== 0x2d) break;
      }
      if (plain && i - start <= SHORT_NUMBER) continue;
      const message = numberFlaw(text.slice(start, i));
      if (message) return flaw(message);
    } else {
      i++;
      if (c === 0x7b || c === 0x5b) {
        if (depth === deepestJson) return { path: "body", message: `is nested deeper than ${deepestJson} levels` };
        level = levels[depth] ??= { object: false, atKey: false, key: "", index: 0, keys: [], seen: undefined };
        depth++;
        level.object = c === 0x7b;
        level.atKey = level.object;
        level.key = "";
        level.index = 0;
        level.keys.length = 0;
        level.seen = undefined;
      } else if (c === 0x7d || c === 0x5d) {
        if (depth > 0) depth--;
        level = levels[depth - 1];
      } else if (level && c === 0x2c) {
        level.atKey = level.object;
        level.index++;
      } else if (level && c === 0x3a) level.atKey = false;
    }
  }
  return undefined;
}

/** A string as it is meant; undefined if it is no JSON string. */
function unescaped(quoted: string): string | undefined {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    return undefined;
  }
}

/** Whether the object has this key already; notes it. */
function isRepeated(level: Level, key: string): boolean {
  if (level.seen) return level.seen.size === level.seen.add(key).size;
  if (level.keys.includes(key)) return true;
  level.keys.push(key);
  if (level.keys.length > FEW_KEYS) level.seen = new Set(level.keys);
  return false;
}

/** Within ±(2^53 - 1) every whole number is held exactly, however it is written, so the size alone decides. */
function numberFlaw(token: string): string | undefined {
  const value = Number(token);
  if (Number.isNaN(value)) return undefined;
  if (Math.abs(value) > Number.MAX_SAFE_INTEGER) {
    return "must be a number between -9007199254740991 and 9007199254740991: a larger one is not held exactly";
  }
  if (value === 0 && /[1-9]/.test(token.split(/e/i, 1)[0] as string))
    return "is so small a number that 0 would be held";
  return undefined;
}
