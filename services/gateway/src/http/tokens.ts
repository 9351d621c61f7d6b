import { createHmac, timingSafeEqual } from "node:crypto";
import { type ConsistencyToken, decodeToken, encodeToken, MalformedToken } from "@quartet/contracts";
import { badRequest, type Keyring } from "@quartet/service";
import type { Request } from "express";

/** Consistency tokens as clients see them: what a service said, and a mark that it did. */
export interface Tokens {
  /** Marks a token that goes out. */
  seal(token: string): string;
  /**
   * The token of a request, in the form that services read; undefined if there is none. 400 naming the header for one that was altered or invented. One
   * without a mark is of a release before this one, and taken if it may have been given out: this is for one release.
   */
  open(req: Request): string | undefined;
}

const markBytes = 16;
/** Clocks differ; what is later than this was never seen by any store. */
const skewMs = 60_000;
/** `epoch * 2^40 + counter`; an epoch begins with a restore from a backup, so there are few. */
const mostVersion = 2 ** 50;

/** Marks are HMAC-SHA-256 by a secret of the gateway's own keys, cut to 16 bytes. */
export function createTokens(keyring: Keyring): Tokens {
  const secrets = keyring.secrets("consistency-token");
  const mark = (token: string, secret: Buffer): Buffer =>
    createHmac("sha256", secret).update(token).digest().subarray(0, markBytes);
  const isMarked = (token: string, given: Buffer): boolean =>
    given.length === markBytes && secrets.some((secret) => timingSafeEqual(mark(token, secret), given));

  return {
    seal: (token) => `${token}.${mark(token, secrets[0]).toString("base64url")}`,
    open(req) {
      const header = req.headers["consistency-token"];
      if (header === undefined || header === "") return undefined;
      const text = String(header);
      const dot = text.indexOf(".");
      const given = text.slice(dot + 1);
      // Bits that base64url does not use may not differ either: a token has one form.
      if (dot >= 0) {
        const bytes = Buffer.from(given, "base64url");
        if (bytes.toString("base64url") === given && isMarked(text.slice(0, dot), bytes)) return text.slice(0, dot);
      } else {
        const token = read(text);
        if (token && mayHaveBeenGiven(token)) return encodeToken(token);
      }
      throw badRequest({ path: "Consistency-Token", message: "is not a token of ours" });
    },
  };
}

function read(text: string): ConsistencyToken | undefined {
  try {
    return decodeToken(text);
  } catch (error) {
    if (error instanceof MalformedToken) return undefined;
    throw error;
  }
}

function mayHaveBeenGiven({ u, t, a }: ConsistencyToken): boolean {
  const latest = Date.now() + skewMs;
  const past = (time: string | undefined): boolean => time === undefined || Date.parse(time) <= latest;
  return (
    past(a?.user) && past(a?.session) && past(t?.stream) && (u ?? []).every(([, version]) => version < mostVersion)
  );
}
