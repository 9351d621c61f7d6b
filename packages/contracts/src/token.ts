import { z } from "zod";

/**
 * The consistency token: what a reader has to have seen. Opaque to clients, base64url JSON inside.
 * `u` users at a version, `f` facts by id, `t` a position in FACTS (of the stream created at `stream`), `a` as-of by source.
 */
const schema = z.strictObject({
  u: z
    .array(z.tuple([z.uuid(), z.number().int().nonnegative()]))
    .max(50)
    .optional(),
  f: z.array(z.string().max(200)).max(50).optional(),
  t: z.strictObject({ seq: z.number().int().nonnegative(), stream: z.string().max(64) }).optional(),
  a: z.strictObject({ user: z.iso.datetime().optional(), session: z.iso.datetime().optional() }).optional(),
});
export type ConsistencyToken = z.infer<typeof schema>;

/** Thrown by decodeToken for a header that is not a token. */
export class MalformedToken extends Error {
  override name = "MalformedToken";
}

/** Writes a token as a header value. */
export function encodeToken(token: ConsistencyToken): string {
  return Buffer.from(JSON.stringify(token)).toString("base64url");
}

/** Reads a header value. Throws MalformedToken. */
export function decodeToken(text: string): ConsistencyToken {
  if (text.length > 6000 || !/^[A-Za-z0-9_-]+$/.test(text)) throw new MalformedToken("not a consistency token");
  try {
    return schema.parse(JSON.parse(Buffer.from(text, "base64url").toString("utf8")));
  } catch (cause) {
    throw new MalformedToken("not a consistency token", { cause });
  }
}

/** One token that asks for everything all of them ask for. Positions of one stream fold to the highest. */
export function mergeTokens(...tokens: (ConsistencyToken | undefined)[]): ConsistencyToken {
  const users = new Map<string, number>();
  const facts = new Set<string>();
  const merged: ConsistencyToken = {};
  for (const token of tokens) {
    for (const [id, version] of token?.u ?? []) users.set(id, Math.max(version, users.get(id) ?? 0));
    for (const id of token?.f ?? []) facts.add(id);
    if (token?.t && (!merged.t || merged.t.stream !== token.t.stream || merged.t.seq < token.t.seq)) merged.t = token.t;
    for (const source of ["user", "session"] as const) {
      const at = token?.a?.[source];
      if (at && !((merged.a?.[source] ?? "") >= at)) merged.a = { ...merged.a, [source]: at };
    }
  }
  if (users.size) merged.u = [...users];
  if (facts.size) merged.f = [...facts];
  return merged;
}
