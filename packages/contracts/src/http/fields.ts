import { z } from "zod";

/** Fields that several bodies share, with the limits of the public API. Lengths count characters (code points). */
const COUNTRIES = new Set(
  (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG " +
    "CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL " +
    "GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA " +
    "LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP " +
    "NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV " +
    "SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
  ).split(" "),
);

/** All ISO 3166-1 alpha-2 codes. */
export const countryCodes: readonly string[] = [...COUNTRIES];

function characters(value: string): number {
  let n = 0;
  for (const _ of value) n++;
  return n;
}

/** Text of min to max characters, well-formed, without control characters (line breaks and tabs allowed if `multiline`). */
export function text(min: number, max: number, options: { multiline?: boolean } = {}) {
  const control = options.multiline ? /[^\P{Cc}\n\r\t]/u : /\p{Cc}/u;
  return z
    .string()
    .meta({ minLength: min, maxLength: max })
    .superRefine((value, ctx) => {
      const n = characters(value);
      if (n < min)
        ctx.addIssue({ code: "custom", message: `must have at least ${min} character${min === 1 ? "" : "s"}` });
      else if (n > max) ctx.addIssue({ code: "custom", message: `must have at most ${max} characters` });
      if (!value.isWellFormed()) ctx.addIssue({ code: "custom", message: "must be well-formed Unicode" });
      else if (control.test(value)) ctx.addIssue({ code: "custom", message: "must have no control characters" });
    });
}

/** RFC 5322's dot-atom (64 at most) at a name of RFC 1035 with two labels or more: what mail servers take, in ASCII. */
const EMAIL =
  /^(?=[^@]{1,64}@)[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{0,58}[a-z0-9])$/i;
export const email = z
  .email({ pattern: EMAIL, error: "must be one valid address" })
  .max(254, "must have at most 254 characters")
  // After the look at it: beyond ASCII lower case makes another address of some.
  .transform((value) => value.toLowerCase());
export const password = z
  .string()
  .meta({ minLength: 12, maxLength: 256 })
  .superRefine((value, ctx) => {
    const n = characters(value);
    if (n < 12 || n > 256) ctx.addIssue({ code: "custom", message: "must have 12 to 256 characters" });
    else if (!value.isWellFormed()) ctx.addIssue({ code: "custom", message: "must be well-formed Unicode" });
  });
export const handle = z.string().regex(/^[a-z0-9_]{3,32}$/, "must match [a-z0-9_]{3,32}");
export const displayName = text(1, 80).refine((v) => v.trim() !== "", "must not be blank");
export const bio = text(0, 500, { multiline: true });
export const country = z.string().refine((v) => COUNTRIES.has(v), "must be an ISO 3166-1 alpha-2 code");
export const tags = z
  .array(z.string().regex(/^[a-z0-9-]{1,32}$/, "must match [a-z0-9-]{1,32}"))
  .max(10, "at most 10 tags")
  .transform((all) => [...new Set(all)]);
export const userIdField = z.uuid("must be a UUID").transform((v) => v.toLowerCase());

const EARLIEST = Date.parse("1970-01-01T00:00:00Z");
const LATEST = Date.parse("2100-01-01T00:00:00Z");

/** An RFC 3339 time from 1970 up to 2100. */
export const occurredAt = z.iso
  .datetime({ offset: true, message: "must be an RFC 3339 time" })
  .refine((v) => Date.parse(v) >= EARLIEST && Date.parse(v) < LATEST, "must be from 1970 to 2100");

/** A time or a date in a query; the end of the last year that counts is allowed as an end. */
export const instant = z
  .union([z.iso.datetime({ offset: true }), z.iso.date()], "must be an RFC 3339 time or a date")
  .refine((v) => Date.parse(v) >= EARLIEST && Date.parse(v) <= LATEST, "must be from 1970 to 2100");

/** A whole number in a query string. */
export function wholeNumber(min: number, max: number, fallback: number) {
  return z
    .string()
    .regex(/^\d{1,9}$/, "must be a whole number")
    .transform(Number)
    .pipe(z.number().min(min, `must be at least ${min}`).max(max, `must be at most ${max}`))
    .default(fallback);
}
