import { createHmac, timingSafeEqual } from "node:crypto";
import { badRequest } from "@quartet/service";
import type { Position } from "../store/search.ts";

/** What a cursor belongs to: another query must not go on with it. */
export interface CursorQuery {
  q: string;
  country?: string | undefined;
  tag: string[];
}

/** Cursors: the position, sealed with the query it belongs to, so that nobody can make one or take one elsewhere. */
export function createCursors(secrets: readonly [Buffer, ...Buffer[]]) {
  const sealOf = (payload: string, { q, country, tag }: CursorQuery, secret = secrets[0]) =>
    createHmac("sha256", secret)
      .update(JSON.stringify([payload, q, country ?? null, tag]))
      .digest();
  return {
    write(position: Position, query: CursorQuery): string {
      const { pit, after, asOf = null, walk, mistyped } = position;
      const payload = Buffer.from(JSON.stringify([pit, after, asOf, walk, mistyped])).toString("base64url");
      return `${payload}.${sealOf(payload, query).toString("base64url")}`;
    },
    /** 400 naming `cursor` for one that is not of this query. */
    read(cursor: string, query: CursorQuery): Position {
      const [payload = "", seal = "", ...rest] = cursor.split(".");
      const given = Buffer.from(seal, "base64url");
      const good = secrets.some((secret) => {
        const wanted = sealOf(payload, query, secret);
        return given.length === wanted.length && timingSafeEqual(given, wanted);
      });
      if (rest.length > 0 || !good)
        throw badRequest([
          { path: "cursor", message: "is not one of this query" },
          { path: "q", message: "must be as where the cursor came from, and so must country and tag" },
        ]);
      const [pit, after, asOf, walk = "", mistyped = false] = JSON.parse(
        Buffer.from(payload, "base64url").toString("utf8"),
      ) as [string, Position["after"], string | null, string?, boolean?];
      return { pit, after, asOf: asOf ?? undefined, walk, mistyped };
    },
  };
}

/** 400 for one that was good: it names `q` too, which is to be asked without it. */
export function expiredCursor(): Error {
  return badRequest([
    { path: "cursor", message: "has expired: begin again without one" },
    { path: "q", message: "is to be asked without a cursor again" },
  ]);
}
