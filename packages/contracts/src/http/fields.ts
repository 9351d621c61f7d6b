import { z } from "zod";

/** Fields that several bodies share, with the limits of the public API. Lengths count characters (code points). */
/** All ISO 3166-1 alpha-2 codes. */
const countryCodes: readonly string[] = (
  "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG " +
  "CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL " +
  "GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA " +
  "LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP " +
  "NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV " +
  "SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
).split(" ");

type Json = Record<string, unknown>;
const documents = new WeakMap<z.core.$ZodType, (generated: Json) => Json>();

/**
 * Gives a schema its place in the OpenAPI document, where zod alone cannot say what is taken: transformed values, checks that are functions. `json` is all
 * that stands there, or makes it of what zod says. Call it last, as every method of zod makes another schema.
 */
export function documentAs<S extends z.ZodType>(schema: S, json: Json | ((generated: Json) => Json)): S {
  documents.set(schema, typeof json === "function" ? json : () => json);
  return schema;
}

/** The same schema, with values that go well with each other for whoever makes requests from the document. */
export function withExamples<S extends z.ZodType>(schema: S, ...examples: unknown[]): S {
  return documentAs(schema, (generated) => ({ ...generated, examples }));
}

/** What the document says of a schema of which zod says `generated`. */
export function documentOf(schema: z.core.$ZodType, generated: Json): Json {
  return documents.get(schema)?.(generated) ?? generated;
}

/** Patterns mean the same in every engine: they are matched with the `u` flag, and have neither `\d`, which elsewhere is more than ASCII, nor a lookaround. */
const NO_CONTROL = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";
const NO_CONTROL_BUT_LINES = "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f]*$";

function characters(value: string): number {
  let n = 0;
  for (const _ of value) n++;
  return n;
}

/** Any text of min to max characters, well-formed. */
export function anyText(min: number, max: number) {
  return z
    .string()
    .superRefine((value, ctx) => {
      const n = characters(value);
      if (n < min)
        ctx.addIssue({ code: "custom", message: `must have at least ${min} character${min === 1 ? "" : "s"}` });
      else if (n > max) ctx.addIssue({ code: "custom", message: `must have at most ${max} characters` });
      if (!value.isWellFormed()) ctx.addIssue({ code: "custom", message: "must be well-formed Unicode" });
    })
    .meta({ minLength: min, maxLength: max });
}

/** Text of min to max characters, well-formed, without control characters (line breaks and tabs allowed if `multiline`). */
export function text(min: number, max: number, options: { multiline?: boolean } = {}) {
  const pattern = options.multiline ? NO_CONTROL_BUT_LINES : NO_CONTROL;
  return anyText(min, max).regex(new RegExp(pattern, "u"), "must have no control characters");
}

/** RFC 5322's dot-atom (64 at most) at a name of RFC 1035 with two labels or more: what mail servers take, in ASCII. */
const EMAIL =
  // pattern: a label ends at its dot and what repeats within it is bounded; recheck guesses, differently each time.
  /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+(?:[A-Za-z]{2,63}|[Xx][Nn]--[A-Za-z0-9-]{0,58}[A-Za-z0-9])$/;
const LOCAL_PART = /^[^@]{1,64}@/;
export const email = documentAs(
  z
    .email({ pattern: EMAIL, error: "must be one valid address" })
    .regex(LOCAL_PART, "must have at most 64 characters before the @")
    .max(254, "must have at most 254 characters")
    // After the look at it: beyond ASCII lower case makes another address of some.
    .transform((value) => value.toLowerCase()),
  { type: "string", format: "email", maxLength: 254, pattern: EMAIL.source, allOf: [{ pattern: LOCAL_PART.source }] },
);
export const password = anyText(12, 256);
export const handle = z.string().regex(/^[a-z0-9_]{3,32}$/, "must match [a-z0-9_]{3,32}");

/** Direction marks are legal in a line, what turns the text behind it (embeddings, overrides, isolates) or ends the line is not. */
const ONE_LINE = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028-\\u202e\\u2066-\\u2069]*$";
/**
 * A letter, digit, punctuation mark or symbol that is to be seen. Unicode has properties for what is ignored (U+200B, the Hangul fillers), for joiners and
 * marks, which need a letter, and for what is assigned to nobody, but none for four that are drawn as blanks: of Braille, music and hieroglyphs.
 */
const VISIBLE =
  "[^\\p{M}\\p{Z}\\p{Cc}\\p{Cf}\\p{Cs}\\p{Co}\\p{Default_Ignorable_Code_Point}\\p{Noncharacter_Code_Point}\\u2800\\u{1d159}\\u{13441}\\u{13442}]";
const visible = new RegExp(VISIBLE, "u");
/** The same in ranges, for the document: most who read it know fewer properties than an engine of this language. Halves of pairs are in no text. */
const visibleInRanges = (): string => {
  const ranges: [first: number, last: number][] = [];
  for (let code = 0; code <= 0x10ffff; code++) {
    const character = String.fromCodePoint(code);
    if (isVisible(character) || !character.isWellFormed()) continue;
    const range = ranges.at(-1);
    if (range?.[1] === code - 1) range[1] = code;
    else ranges.push([code, code]);
  }
  // Beyond four digits no two languages write an escape alike: such a character stands for itself.
  const written = (code: number) =>
    code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : String.fromCodePoint(code);
  return `[^${ranges.map(([first, last]) => (first === last ? written(first) : `${written(first)}-${written(last)}`)).join("")}]`;
};

/** Whether there is anything to see in a text. */
function isVisible(value: string): boolean {
  return visible.test(value);
}

/** One line of min to max characters with something to see in it, which leaves the text around it as it is. */
function visibleLine(min: number, max: number, ...examples: string[]) {
  return documentAs(
    text(min, max)
      .regex(new RegExp(ONE_LINE, "u"), "must have no characters that end the line or turn the text around it")
      .refine(isVisible, "must have a visible character"),
    // One pattern in the document: whoever makes names from it looks at one.
    () => {
      const pattern = ONE_LINE.replace("*$", `*${visibleInRanges()}${ONE_LINE.slice(1)}`);
      return { type: "string", minLength: min, maxLength: max, pattern, examples };
    },
  );
}

/** How others see a person. */
export const displayName = visibleLine(1, 80, "Ada Lovelace", "李小龙");
/** What a session is called in the list of a person's sessions. */
export const device = visibleLine(1, 100, "Ada's phone");
export const bio = text(0, 500, { multiline: true });
export const country = z.enum(countryCodes, "must be an ISO 3166-1 alpha-2 code");
export const tags = z
  .array(z.string().regex(/^[a-z0-9-]{1,32}$/, "must match [a-z0-9-]{1,32}"))
  .max(10, "at most 10 tags")
  .transform((all) => [...new Set(all)]);
export const userIdField = z.uuid("must be a UUID").transform((v) => v.toLowerCase());

const EARLIEST = Date.parse("1970-01-01T00:00:00Z");
const LATEST = Date.parse("2100-01-01T00:00:00Z");

/** A day of 1970 to 2099 that there was or will be. */
const DAY =
  "(?:(?:19(?:7[26]|8[048]|9[26])|20(?:[02468][048]|[13579][26]))-02-29|(?:19[7-9][0-9]|20[0-9]{2})-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|" +
  "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8])))";
const TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?";
const OFFSET = "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
/** With an offset the first and the last day reach beyond the years that count: the document leaves those out, and a time there that counts is taken all the same. */
const BEYOND = { pattern: "^(?:1970-01-01T.*[+]|2099-12-31T.*-[0-9]{2}:)" };

/** An RFC 3339 time from 1970 up to 2100. */
export const occurredAt = documentAs(
  z.iso
    .datetime({ offset: true, message: "must be an RFC 3339 time" })
    .refine((v) => Date.parse(v) >= EARLIEST && Date.parse(v) < LATEST, "must be from 1970 to 2100"),
  { type: "string", format: "date-time", pattern: `^${DAY}T${TIME}${OFFSET}$`, not: BEYOND },
);

/** A time or a date in a query; the end of the last year that counts is allowed as an end. */
export const instant = documentAs(
  z
    .union([z.iso.datetime({ offset: true }), z.iso.date()], "must be an RFC 3339 time or a date")
    .refine((v) => Date.parse(v) >= EARLIEST && Date.parse(v) <= LATEST, "must be from 1970 to 2100"),
  {
    anyOf: [
      {
        type: "string",
        format: "date-time",
        pattern: `^(?:${DAY}T${TIME}${OFFSET}|2100-01-01T00:00:00(?:\\.0+)?Z)$`,
        not: BEYOND,
      },
      { type: "string", format: "date", pattern: `^(?:${DAY}|2100-01-01)$` },
    ],
  },
);

/** A whole number in a query string, of as many digits as `max` has. */
export function wholeNumber(min: number, max: number, fallback: number) {
  return documentAs(
    z
      .string()
      // pattern: so many digits.
      .regex(new RegExp(`^[0-9]{1,${Math.max(9, String(max).length)}}$`), "must be a whole number")
      .transform(Number)
      .pipe(z.number().min(min, `must be at least ${min}`).max(max, `must be at most ${max}`))
      .default(fallback),
    { type: "integer", minimum: min, maximum: max, default: fallback },
  );
}
