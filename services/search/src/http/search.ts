import { searchQuery, suggestQuery } from "@quartet/contracts";
import { parseQuery } from "@quartet/service";
import type { Express } from "express";
import { isSnapshotGone } from "../store/client.ts";
import { type Page, searchPage, suggest } from "../store/search.ts";
import type { SearchContext } from "./context.ts";
import { badCursor, createCursors } from "./cursor.ts";

/** The public reads. They need no token: what they show, everybody may see. */
export function addSearchRoutes(app: Express, context: SearchContext & { secret: string }): void {
  const { elasticsearch, client, names, freshen } = context;
  const cursors = createCursors(context.secret);

  app.get("/v1/search", async (req, res) => {
    const query = parseQuery(searchQuery, req);
    const position = query.cursor === undefined ? undefined : cursors.read(query.cursor, query);
    await freshen(req, res);
    let page: Page;
    try {
      page = await elasticsearch.run(() => searchPage(client, names, query, position));
    } catch (error) {
      if (position && isSnapshotGone(error)) throw badCursor("has expired: begin again without one");
      throw error;
    }
    res.setHeader("Cache-Control", "no-store");
    res.json({ ...page.body, ...(page.next ? { nextCursor: cursors.write(page.next, query) } : {}) });
  });

  app.get("/v1/search/suggest", async (req, res) => {
    const { q, limit } = parseQuery(suggestQuery, req);
    await freshen(req, res);
    res.setHeader("Cache-Control", "no-store");
    res.json({ suggestions: await elasticsearch.run(() => suggest(client, names, q, limit)) });
  });
}
